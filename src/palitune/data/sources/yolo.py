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

from palitune.data.sources import lookup
from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxFormat, BoxReader
from palitune.data.sources.checks import HeaderReader, header_reader, image_size, shown, utf8_lines
from palitune.data.sources.folders import images_in
from palitune.data.sources.shapes import polygon_box, read_mask
from palitune.examples import DataError, Instance, Row, Size

BOXES = BoxReader(BoxFormat.cxcywh, normalized=True)
_CORNERS = BoxReader(BoxFormat.xyxy, normalized=True)
_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


@dataclass(kw_only=True)
class Yolo(Source):
    """Rows out of YOLO text files: one per image."""

    name: ClassVar[str] = "yolo"
    patterns: ClassVar[tuple[str, ...]] = _FILES

    splits: dict[str, str] = field(default_factory=dict)
    """Folder or list of images of a split by the split's name, relative to `path` or absolute;
    those that `data.yaml` does not name."""
    masks: bool = False
    """Make masks of polygons; an object that is a box only has none."""

    def found(self, split: str) -> list[Path]:
        if own := [s for s in self.splits if lookup.canonical(s) == split]:
            return [self.folder() / Path(self.splits[own[0]]).expanduser()]
        file = self._description()
        return [file] if file and any(s in _parsed(file) for s in lookup.spellings(split)) else []

    def files(self, split: str) -> Iterable[Path]:
        file = self.annotation_file(split)
        yield file
        if (description := self._description()) and description != file:
            yield description
        for image in self._images(file, split):
            yield image.parent
            if (labels := _labels_of(image)).is_file():
                yield labels

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        description = self._description()
        if description is None:
            raise DataError(
                f"{self.location()}: no {' or '.join(_FILES[:2])} that names the classes"
            )
        reader = _Reader(description, _classes(description), self.masks)
        images = self._images(file, split)
        if images and not any(_labels_of(image).is_file() for image in images):
            raise DataError(
                f"{file}: no image of split {split!r} has labels, the first one's would be "
                f"{_labels_of(images[0])}; put them there"
            )
        root = Path(os.path.commonpath([str(image.parent) for image in images] or ["."]))
        for image in images:
            try:
                yield reader.row(image, root)
            except DataError as mistake:
                yield mistake

    def _description(self) -> Path | None:
        location = self.location()
        if location.is_file():
            return location
        return next((file for name in _FILES if (file := location / name).is_file()), None)

    def _images(self, file: Path, split: str) -> list[Path]:
        """List the images of a split; `file` is `data.yaml`, a folder or a list of images."""
        if file.suffix not in (".yaml", ".yml"):
            return _listed(file)
        if self._is_divided(split):
            split = "train"
        content = _parsed(file)
        named = next(content[s] for s in lookup.spellings(split) if s in content)
        entries = named if isinstance(named, list) else [named]
        return [
            image for e in entries for image in _listed(_place(file, content.get("path"), e, split))
        ]


class _Reader:
    def __init__(self, description: Path, classes: dict[int, str], masks: bool) -> None:
        self.description = description
        self.classes = classes
        self.masks = masks
        self.header: HeaderReader = header_reader()

    def row(self, image: Path, root: Path) -> Row:
        labels = _labels_of(image)
        size = image_size(self.header, str(image), str(labels))
        lines = utf8_lines(labels.read_bytes(), labels) if labels.is_file() else []
        return Row(
            id=image.relative_to(root).with_suffix("").as_posix(),
            images=(str(image),),
            size=size,
            place=str(labels),
            instances=tuple(
                self._instance(line.split(), size, f"{labels}:{number}")
                for number, line in enumerate(lines, 1)
                if line.strip()
            ),
            classes=tuple(self.classes.values()),
        )

    def _instance(self, words: list[str], size: Size, place: str) -> Instance:
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if not numbers or numbers[0] % 1:
            raise DataError(
                f"{place}: {shown(' '.join(words))} is not a class number and coordinates; "
                "write 'class x y width height', or 'class x y x y x y ...' for a polygon"
            )
        label = self.classes.get(int(numbers[0]))
        if label is None:
            raise DataError(
                f"{place}: class {words[0]} is none of the {len(self.classes)} that "
                f"{self.description} names; correct it or add its name"
            )
        coordinates = numbers[1:]
        if len(coordinates) == 4:
            return Instance(label=label, box=BOXES.read(coordinates, size, place))
        if len(coordinates) < 6 or len(coordinates) % 2:
            raise DataError(
                f"{place}: {len(coordinates)} coordinates are neither a box (4) nor a polygon (6 "
                "or more, in pairs); a confidence has no place here"
            )
        mask = read_mask(coordinates, size, place, normalized=True) if self.masks else None
        box = _CORNERS.read(list(polygon_box(coordinates)), size, place)
        return Instance(label=label, box=box, mask=mask)


def _labels_of(image: Path) -> Path:
    """Return the text file of an image: the last folder `images` of its path becomes `labels`."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _listed(place: Path) -> list[Path]:
    """List the images of a folder, or those that a text file names."""
    if place.is_dir():
        return [Path(os.path.abspath(image)) for image in images_in(place)]
    names = (line.strip() for line in utf8_lines(place.read_bytes(), place))
    return [Path(os.path.abspath(place.parent / name)) for name in names if name]


def _place(file: Path, root: Any, entry: Any, split: str) -> Path:
    """Find what `data.yaml` names.

    Tools disagree on where relative paths begin, and Roboflow writes `../train/images` for a
    folder beside the file.
    """
    if not isinstance(entry, str) or not isinstance(root, str | None):
        raise DataError(
            f"{file}: {split} is {shown(entry)}; name a folder or a text file of images"
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


def _parsed(file: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, ValueError) as mistake:
        problem = " ".join(str(mistake).split())
        raise DataError(f"{file}: not YAML ({problem}); write it anew") from mistake
    if not isinstance(content, dict):
        raise DataError(f"{file}: not a description of a YOLO data set; see data.path")
    return content


def _classes(file: Path) -> dict[int, str]:
    """Return the names by number, in the order of the numbers."""
    names = _parsed(file).get("names")
    numbered = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(numbered, dict) or not numbered:
        raise DataError(f"{file}: no names of classes; write names: [boat, buoy]")
    for number, name in numbered.items():
        if not isinstance(number, int) or not isinstance(name, str | int) or not str(name).strip():
            raise DataError(f"{file}: class {number!r}: {name!r} must be a number and a name")
    return {number: str(numbered[number]) for number in sorted(numbered)}
