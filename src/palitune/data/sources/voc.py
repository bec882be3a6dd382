"""Pascal VOC: an XML file per image.

Reads the devkit's layout (`ImageSets/Main/train.txt`, `Annotations/`, `JPEGImages/`) and folders
per split with images and XML side by side, as Roboflow exports them.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar, NoReturn
from xml.etree import ElementTree

from palitune.data.sources.base import Source
from palitune.data.sources.folders import IMAGE_EXTENSIONS, walk_files
from palitune.data.sources.validation import (
    HeaderReader,
    cached_header_reader,
    check_size,
    image_size,
    short_repr,
    utf8_lines,
    validate_box,
)
from palitune.errors import DataError
from palitune.records import Instance, Row, Size

BOX_DESCRIPTION = "xmin, ymin, xmax, ymax in pixels"


class DifficultObjects(Enum):
    """What becomes of objects that are marked as difficult."""

    ignore = "ignore"
    """They need not be found and are no mistake if found, as in Pascal's evaluation."""
    keep = "keep"
    """They are objects like any other."""
    drop = "drop"
    """They are not there."""


@dataclass(kw_only=True)
class Voc(Source):
    """Rows out of Pascal VOC files: one per image."""

    name: ClassVar[str] = "voc"
    patterns: ClassVar[tuple[str, ...]] = (
        "ImageSets/Main/{split}.txt",
        "ImageSets/{split}.txt",
        "{split}.txt",
        "{split}/Annotations",
        "{split}/annotations",
        "{split}",
        "Annotations/{split}",
        "annotations/{split}",
    )
    accepts_folders: ClassVar[bool] = True

    images: str | None = None
    """Folder of the images, relative to `path` or absolute; null: found in the usual places."""
    difficult: DifficultObjects = DifficultObjects.ignore
    """Objects marked as difficult: ignore | keep | drop."""
    one_based: bool = False
    """The first pixel is 1 and xmax and ymax are inside the box, as in Pascal's own files."""

    def files(self, split: str) -> Iterable[Path]:
        file = self.annotation_file(split)
        return [file, *(xml for xml in self._annotation_files(file) if xml.is_file())]

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        reader = _VocReader(self, self.folder())
        for xml in self._annotation_files(file):
            try:
                yield reader.row(xml)
            except DataError as mistake:
                yield mistake

    def _annotation_files(self, file: Path) -> list[Path]:
        """List the XML files of a folder, or of the names in a text file."""
        if file.is_dir():
            return [xml for xml in walk_files(file) if xml.suffix.lower() == ".xml"]
        names = [line.split()[0] for line in utf8_lines(file.read_bytes(), file) if line.strip()]
        folders = [self.folder() / name for name in ("Annotations", "annotations", "")]
        folder = next((f for f in folders if f.is_dir()), self.folder())
        return [folder / f"{name}.xml" for name in names]


class _VocReader:
    def __init__(self, settings: Voc, root: Path) -> None:
        self.settings = settings
        self.root = root
        self.read_header: HeaderReader = cached_header_reader()

    def row(self, xml: Path) -> Row:
        tree = _parse_xml(xml)
        path = os.path.abspath(self._image(tree, xml))
        size = image_size(self.read_header, path, str(xml))
        check_size(_declared_size(tree), self.read_header(path), path, str(xml))
        objects = [
            found
            for number, element in enumerate(tree.iterfind("object"), 1)
            if (found := self._instance(element, size, f"{xml}, object {number}")) is not None
        ]
        return Row(
            id=xml.stem, images=(path,), size=size, location=str(xml), instances=tuple(objects)
        )

    def _image(self, tree: ElementTree.Element, xml: Path) -> Path:
        written = (tree.findtext("filename") or "").strip().replace("\\", "/")
        names = [Path(written).name] if written else []
        names += [xml.stem + ending for ending in IMAGE_EXTENSIONS]
        if self.settings.images is not None:
            folders = [self.root / Path(self.settings.images).expanduser()]
        else:
            beside = [xml.parent, xml.parent.parent]
            folders = [xml.parent, *(f / name for f in beside for name in ("JPEGImages", "images"))]
            folders += [self.root / "JPEGImages", self.root / "images", self.root]
        for name in names:
            for folder in folders:
                if (file := folder / name).is_file():
                    return file
        raise DataError(
            f"{xml}: image {(written or xml.stem)!r} is not beside it, in JPEGImages or in images; "
            "say where the images are with data.images=FOLDER"
        )

    def _instance(self, element: ElementTree.Element, size: Size, location: str) -> Instance | None:
        label = (element.findtext("name") or "").strip()
        if not label:
            raise DataError(f"{location}: the object has no name; give it one or drop it")
        is_difficult = (element.findtext("difficult") or "0").strip() == "1"
        if is_difficult and self.settings.difficult is DifficultObjects.drop:
            return None
        words = [
            element.findtext(f"bndbox/{side}") or "" for side in ("xmin", "ymin", "xmax", "ymax")
        ]
        try:
            x0, y0, x1, y1 = (float(word) for word in words)
        except ValueError:
            raise DataError(
                f"{location}: box {short_repr(words)} is not four numbers; boxes are {BOX_DESCRIPTION}"
            ) from None
        if self.settings.one_based:
            x0, y0 = x0 - 1, y0 - 1
        return Instance(
            label=label,
            box=validate_box((x0, y0, x1, y1), size, location, BOX_DESCRIPTION),
            crowd=is_difficult and self.settings.difficult is DifficultObjects.ignore,
        )


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a document type, and so every entity: a file of boxes needs none."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise DataError("it declares a document type")


def _parse_xml(xml: Path) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(
            xml.read_bytes(), parser=ElementTree.XMLParser(target=_NoDoctype())
        )
    except FileNotFoundError:
        raise DataError(f"{xml} does not exist, but its split lists it") from None
    except (ElementTree.ParseError, LookupError, ValueError) as mistake:
        raise DataError(
            f"{xml}: not XML that is safe to read ({mistake}); write it anew"
        ) from mistake
    if root.tag != "annotation":
        raise DataError(f"{xml}: the root is <{root.tag}>, not <annotation>; is this Pascal VOC?")
    return root


def _declared_size(tree: ElementTree.Element) -> tuple[int | None, int | None]:
    """Return the size that the file gives, (None, None) for none or zero as some tools write."""
    try:
        width, height = (int(tree.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    except ValueError:
        return None, None
    return (width, height) if width and height else (None, None)
