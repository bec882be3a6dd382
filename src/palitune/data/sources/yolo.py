"""YOLO: a `data.yaml`, a text file of boxes or polygons per image.

`data.yaml` names the classes (`names`, a list or numbers with names) and for each split a folder
of images, a text file that lists images, or a list of those (`train`, `val`, `test`; relative to
its `path`, else to the file itself). The labels of `.../images/a.png` are `.../labels/a.txt`, a
line per object: `class x y width height` or `class x y x y x y ...`, in fractions of the image.
An image without labels has no objects.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.sources import split_files
from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxFormat, BoxReader
from palitune.data.sources.folders import iterate_images
from palitune.data.sources.mask_formats import parse_segmentation, polygon_to_box
from palitune.data.sources.validation import (
    HeaderReader,
    cached_header_reader,
    image_size,
    short_repr,
    utf8_lines,
)
from palitune.errors import DataError
from palitune.records import Instance, Row, Size

BOX_READER = BoxReader(BoxFormat.cxcywh, normalized=True)
_CORNER_BOX_READER = BoxReader(BoxFormat.xyxy, normalized=True)
_DESCRIPTION_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


@dataclass(kw_only=True)
class Yolo(Source):
    """Rows out of YOLO text files: one per image."""

    name: ClassVar[str] = "yolo"
    patterns: ClassVar[tuple[str, ...]] = _DESCRIPTION_FILES

    splits: dict[str, str] = field(default_factory=dict)
    """Folder or list of images of a split by the split's name, relative to `path` or absolute;
    those that `data.yaml` does not name."""
    masks: bool = False
    """Make masks of polygons; an object that is a box only has none."""

    def candidates(self, split: str) -> list[Path]:
        if own := [s for s in self.splits if split_files.canonical_split(s) == split]:
            return [self.folder() / Path(self.splits[own[0]]).expanduser()]
        file = self._description_file()
        return (
            [file]
            if file and any(s in _load_yaml(file) for s in split_files.split_aliases(split))
            else []
        )

    def files(self, split: str) -> Iterable[Path]:
        file = self.annotation_file(split)
        yield file
        if (description := self._description_file()) and description != file:
            yield description
        for image in self._split_images(file, split):
            yield image.parent
            if (labels := _label_file(image)).is_file():
                yield labels

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        description = self._description_file()
        if description is None:
            raise DataError(
                f"{self.resolved_path()}: no {' or '.join(_DESCRIPTION_FILES[:2])} that names the classes"
            )
        reader = _YoloReader(description, _load_class_names(description), self.masks)
        images = self._split_images(file, split)
        if images and not any(_label_file(image).is_file() for image in images):
            raise DataError(
                f"{file}: no image of split {split!r} has labels, the first one's would be "
                f"{_label_file(images[0])}; put them there"
            )
        root = Path(os.path.commonpath([str(image.parent) for image in images] or ["."]))
        for image in images:
            try:
                yield reader.row(image, root)
            except DataError as mistake:
                yield mistake

    def _description_file(self) -> Path | None:
        location = self.resolved_path()
        if location.is_file():
            return location
        return next(
            (file for name in _DESCRIPTION_FILES if (file := location / name).is_file()), None
        )

    def _split_images(self, file: Path, split: str) -> list[Path]:
        """List the images of a split; `file` is `data.yaml`, a folder or a list of images."""
        if file.suffix not in (".yaml", ".yml"):
            return _list_images(file)
        if self._uses_validation_fraction(split):
            split = "train"
        content = _load_yaml(file)
        named = next(content[s] for s in split_files.split_aliases(split) if s in content)
        entries = named if isinstance(named, list) else [named]
        return [
            image
            for e in entries
            for image in _list_images(_resolve_entry(file, content.get("path"), e, split))
        ]


class _YoloReader:
    def __init__(self, description: Path, classes: dict[int, str], masks: bool) -> None:
        self.description = description
        self.classes = classes
        self.masks = masks
        self.read_header: HeaderReader = cached_header_reader()

    def row(self, image: Path, root: Path) -> Row:
        labels = _label_file(image)
        size = image_size(self.read_header, str(image), str(labels))
        lines = utf8_lines(labels.read_bytes(), labels) if labels.is_file() else []
        return Row(
            id=image.relative_to(root).with_suffix("").as_posix(),
            images=(str(image),),
            size=size,
            location=str(labels),
            instances=tuple(
                self._instance(line.split(), size, f"{labels}:{number}")
                for number, line in enumerate(lines, 1)
                if line.strip()
            ),
            classes=tuple(self.classes.values()),
        )

    def _instance(self, fields: list[str], size: Size, location: str) -> Instance:
        try:
            numbers = [float(word) for word in fields]
        except ValueError:
            numbers = []
        if not numbers or numbers[0] % 1:
            raise DataError(
                f"{location}: {short_repr(' '.join(fields))} is not a class number and coordinates; "
                "write 'class x y width height', or 'class x y x y x y ...' for a polygon"
            )
        label = self.classes.get(int(numbers[0]))
        if label is None:
            raise DataError(
                f"{location}: class {fields[0]} is none of the {len(self.classes)} that "
                f"{self.description} names; correct it or add its name"
            )
        coordinates = numbers[1:]
        if len(coordinates) == 4:
            return Instance(label=label, box=BOX_READER.read(coordinates, size, location))
        if len(coordinates) < 6 or len(coordinates) % 2:
            raise DataError(
                f"{location}: {len(coordinates)} coordinates are neither a box (4) nor a polygon (6 "
                "or more, in pairs); a confidence has no place here"
            )
        mask = (
            parse_segmentation(coordinates, size, location, normalized=True) if self.masks else None
        )
        box = _CORNER_BOX_READER.read(list(polygon_to_box(coordinates)), size, location)
        return Instance(label=label, box=box, mask=mask)


def _label_file(image: Path) -> Path:
    """Return the text file of an image: the last folder `images` of its path becomes `labels`."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _list_images(path: Path) -> list[Path]:
    """List the images of a folder, or those that a text file names."""
    if path.is_dir():
        return [Path(os.path.abspath(image)) for image in iterate_images(path)]
    names = (line.strip() for line in utf8_lines(path.read_bytes(), path))
    return [Path(os.path.abspath(path.parent / name)) for name in names if name]


def _resolve_entry(file: Path, root: Any, entry: Any, split: str) -> Path:
    """Find what `data.yaml` names.

    Tools disagree on where relative paths begin, and Roboflow writes `../train/images` for a
    folder beside the file.
    """
    if not isinstance(entry, str) or not isinstance(root, str | None):
        raise DataError(
            f"{file}: {split} is {short_repr(entry)}; name a folder or a text file of images"
        )
    bases = [file.parent / root, Path(root)] if root else []
    bases += [file.parent]
    stripped = entry.lstrip("./")
    for name in (entry, stripped) if entry.startswith("..") else (entry,):
        for base in bases:
            if (place := base / name).exists():
                return place
    raise DataError(
        f"{file}: {split} is {entry!r}, which does not exist beside the file"
        f"{f' or in its path {root!r}' if root else ''}; correct it"
    )


def _load_yaml(file: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError) as mistake:
        problem = " ".join(str(mistake).split())
        raise DataError(f"{file}: not YAML ({problem}); write it anew") from mistake
    if not isinstance(content, dict):
        raise DataError(f"{file}: not a description of a YOLO data set; see data.path")
    return content


def _load_class_names(file: Path) -> dict[int, str]:
    """Return the names by number, in the order of the numbers."""
    names = _load_yaml(file).get("names")
    numbered = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(numbered, dict) or not numbered:
        raise DataError(f"{file}: no names of classes; write names: [boat, buoy]")
    for number, name in numbered.items():
        if not isinstance(number, int) or not isinstance(name, str | int) or not str(name).strip():
            raise DataError(f"{file}: class {number!r}: {name!r} must be a number and a name")
    return {number: str(numbered[number]) for number in sorted(numbered)}
