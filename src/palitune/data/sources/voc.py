"""Pascal VOC: an XML file per image.

Supports the layout of the devkit (`ImageSets/Main/train.txt`, `Annotations/`, `JPEGImages/`) and
one folder per split with both images and XML files, as exported by Roboflow.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxLimits, validate_box
from palitune.data.sources.folders import IMAGE_EXTENSIONS, walk_files
from palitune.data.sources.split_files import canonical_split
from palitune.data.sources.validation import (
    HeaderReader,
    cached_header_reader,
    check_size,
    collect,
    image_size,
    parse_xml,
    rows_or_errors,
    short_repr,
    utf8_lines,
)
from palitune.errors import DataError
from palitune.records import Instance, Row, Size

_BOX_DESCRIPTION = "xmin, ymin, xmax, ymax in pixels"


class DifficultObjects(Enum):
    """Use of objects that are marked as difficult."""

    ignore = "ignore"
    """They count neither as missed nor as false detections, as in Pascal's evaluation."""
    keep = "keep"
    """They are treated like other objects."""
    drop = "drop"
    """They are removed."""


@dataclass(kw_only=True)
class Voc(Source):
    """Rows from Pascal VOC files: one per image."""

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
    """Folder of the images, relative to `path` or absolute (null: search the usual folders)."""
    difficult: DifficultObjects = DifficultObjects.ignore
    """Objects marked as difficult: ignore | keep | drop."""
    one_based: bool = False
    """The first pixel is 1, and xmax and ymax are inside the box, as in Pascal's original files."""

    def files(self, split: str) -> Iterable[Path]:
        # The classes of a row are those of all splits.
        splits = dict.fromkeys([canonical_split(split), *self.available_splits()])
        for name in splits:
            file = self.annotation_file(name)
            yield file
            yield from (xml for xml in self._annotation_files(file) if xml.is_file())

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        limits = BoxLimits(self.clip_boxes)
        reader = _VocReader(self, self.folder(), tuple(self._class_names(split)), limits)
        yield from rows_or_errors(reader.row, self._annotation_files(file), limits.left_out)

    def _class_names(self, split: str) -> list[str]:
        """Return the names of the objects of all splits, in alphabetical order."""
        names: set[str] = set()
        for xml in dict.fromkeys(self.files(split)):
            if xml.suffix.lower() == ".xml":
                with suppress(DataError):  # reported when its row is built
                    objects = _parse_xml(xml).iterfind("object")
                    names |= {(element.findtext("name") or "").strip() for element in objects}
        return sorted(names - {""})

    def _annotation_files(self, file: Path) -> list[Path]:
        """Return the XML files of a folder, or of the names in a text file."""
        if file.is_dir():
            return [xml for xml in walk_files(file) if xml.suffix.lower() == ".xml"]
        names = [line.split()[0] for line in utf8_lines(file.read_bytes(), file) if line.strip()]
        folders = [self.folder() / name for name in ("Annotations", "annotations", "")]
        folder = next((f for f in folders if f.is_dir()), self.folder())
        return [folder / f"{name}.xml" for name in names]


@dataclass
class _VocReader:
    """Builds the row of an XML file."""

    settings: Voc
    root: Path
    classes: tuple[str, ...]
    limits: BoxLimits
    read_header: HeaderReader = field(default_factory=cached_header_reader)

    def row(self, xml: Path) -> Row:
        tree = _parse_xml(xml)
        path = os.path.abspath(self._image(tree, xml))
        size = image_size(self.read_header, path, str(xml))
        check_size(_declared_size(tree), self.read_header(path), path, str(xml))
        instances = collect(
            lambda numbered: self._instance(numbered[1], size, f"{xml}, object {numbered[0]}"),
            enumerate(tree.iterfind("object"), 1),
        )
        return Row(
            id=xml.stem,
            images=(path,),
            size=size,
            location=str(xml),
            instances=tuple(instance for instance in instances if instance is not None),
            classes=self.classes or None,
        )

    def _image(self, tree: ElementTree.Element, xml: Path) -> Path:
        filename = (tree.findtext("filename") or "").strip().replace("\\", "/")
        names = [Path(filename).name] if filename else []
        names += [xml.stem + extension for extension in IMAGE_EXTENSIONS]
        if self.settings.images is not None:
            folders = [self.root / Path(self.settings.images).expanduser()]
        else:
            bases = [xml.parent, xml.parent.parent, self.root]
            folders = [base / name for base in bases for name in ("JPEGImages", "images")]
            folders = [xml.parent, *folders, self.root]
        for name in names:
            for folder in folders:
                if os.path.isfile(file := folder / name):
                    return file
        raise DataError(
            f"{xml}: image {(filename or xml.stem)!r} must be next to the file, in JPEGImages or "
            "in images, got none. Set data.images=FOLDER."
        )

    def _instance(self, element: ElementTree.Element, size: Size, location: str) -> Instance | None:
        label = (element.findtext("name") or "").strip()
        if not label:
            raise DataError(
                f"{location}: object must have a name, got none. Add it, or drop the object."
            )
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
                f"{location}: box must be four numbers, got {short_repr(words)}. Boxes are "
                f"{_BOX_DESCRIPTION}."
            ) from None
        if self.settings.one_based:
            x0, y0 = x0 - 1, y0 - 1
        return Instance(
            label=label,
            box=validate_box((x0, y0, x1, y1), size, location, _BOX_DESCRIPTION, self.limits),
            crowd=is_difficult and self.settings.difficult is DifficultObjects.ignore,
        )


def _parse_xml(xml: Path) -> ElementTree.Element:
    try:
        return parse_xml(xml, "annotation", "Use Pascal VOC files.")
    except FileNotFoundError:
        raise DataError(
            f"{xml} does not exist. Add the file, or remove it from the list of its split."
        ) from None


def _declared_size(tree: ElementTree.Element) -> tuple[int | None, int | None]:
    """Return the (width, height) stated in the file; (None, None) if it is absent or zero."""
    try:
        width, height = (int(tree.findtext(f"size/{side}") or 0) for side in ("width", "height"))
    except ValueError:
        return None, None
    return (width, height) if width and height else (None, None)
