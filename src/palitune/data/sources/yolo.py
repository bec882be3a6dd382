"""YOLO: a `data.yaml`, and a text file of boxes or polygons per image.

`data.yaml` contains the classes (`names`, a list or a mapping from numbers) and for each split
(`train`, `val`, `test`) a folder of images, a text file that lists images, or a list of these,
relative to its `path`, else to the file itself. The labels of `.../images/a.png` are
`.../labels/a.txt` with a line per object: `class x y width height` or `class x y x y x y ...`, in
fractions of the image. An image without labels has no objects.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from palitune.codec.parsing import check_yaml
from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxFormat, BoxLimits, BoxReader
from palitune.data.sources.folders import iterate_images
from palitune.data.sources.masks.formats import parse_segmentation, polygon_to_box
from palitune.data.sources.split_files import canonical_split, split_aliases
from palitune.data.sources.validation import (
    HeaderReader,
    cached_header_reader,
    collect,
    image_size,
    rows_or_errors,
    short_repr,
    utf8_lines,
)
from palitune.errors import DataError
from palitune.records import Instance, Row, Size

_DESCRIPTION_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


@dataclass(kw_only=True)
class Yolo(Source):
    """Rows from YOLO text files: one per image."""

    name: ClassVar[str] = "yolo"
    patterns: ClassVar[tuple[str, ...]] = _DESCRIPTION_FILES

    splits: dict[str, str] = field(default_factory=dict)
    """Folder or list of images by split name, relative to `path` or absolute, for splits that
    `data.yaml` does not contain."""
    masks: bool = False
    """Read polygons as masks; objects with a box only have no mask."""

    def candidates(self, split: str) -> list[Path]:
        for name, images in self.splits.items():
            if canonical_split(name) == split:
                return [self.folder() / Path(images).expanduser()]
        file = self._description_file()
        return [file] if file and any(s in _load_yaml(file) for s in split_aliases(split)) else []

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
                f"{self.resolved_path()}: folder must contain "
                f"{' or '.join(_DESCRIPTION_FILES[:2])} with the classes, got none. Set data.path "
                "to its folder."
            )
        limits = BoxLimits(self.clip_boxes)
        reader = _YoloReader(description, _load_class_names(description), self.masks, limits)
        images = self._split_images(file, split)
        if images and not any(_label_file(image).is_file() for image in images):
            raise DataError(
                f"{file}: images of split {split!r} must have label files such as "
                f"{_label_file(images[0])}, got none. Move the label files there."
            )
        root = Path(os.path.commonpath([str(image.parent) for image in images] or ["."]))
        yield from rows_or_errors(lambda image: reader.row(image, root), images, limits.left_out)

    def _description_file(self) -> Path | None:
        location = self.resolved_path()
        if location.is_file():
            return location
        return next(
            (file for name in _DESCRIPTION_FILES if (file := location / name).is_file()), None
        )

    def _split_images(self, file: Path, split: str) -> list[Path]:
        """Return the images of a split; `file` is `data.yaml`, a folder or a list of images."""
        if file.suffix not in (".yaml", ".yml"):
            return _list_images(file)
        if self._uses_validation_fraction(split):
            split = "train"
        content = _load_yaml(file)
        value = next(content[s] for s in split_aliases(split) if s in content)
        return [
            image
            for entry in (value if isinstance(value, list) else [value])
            for image in _list_images(_resolve_entry(file, content.get("path"), entry, split))
        ]


@dataclass
class _YoloReader:
    """Builds the row of an image from its label file."""

    description: Path
    classes: dict[int, str]
    masks: bool
    limits: BoxLimits
    read_header: HeaderReader = field(default_factory=cached_header_reader)

    def __post_init__(self) -> None:
        self._boxes = BoxReader(BoxFormat.cxcywh, normalized=True, limits=self.limits)
        self._corner_boxes = BoxReader(BoxFormat.xyxy, normalized=True, limits=self.limits)

    def row(self, image: Path, root: Path) -> Row:
        labels = _label_file(image)
        size = image_size(self.read_header, str(image), str(labels))
        lines = utf8_lines(labels.read_bytes(), labels) if labels.is_file() else []
        return Row(
            id=image.relative_to(root).with_suffix("").as_posix(),
            images=(str(image),),
            size=size,
            location=str(labels),
            instances=collect(
                lambda numbered: self._instance(
                    numbered[1].split(), size, f"{labels}:{numbered[0]}"
                ),
                ((number, line) for number, line in enumerate(lines, 1) if line.strip()),
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
                f"{location}: line must be 'class x y width height', or 'class x y x y x y ...' "
                f"for a polygon, got {short_repr(' '.join(fields))}."
            )
        label = self.classes.get(int(numbers[0]))
        if label is None:
            raise DataError(
                f"{location}: class must be one of the {len(self.classes)} in {self.description}, "
                f"got {fields[0]}. Correct it, or add its name."
            )
        coordinates = numbers[1:]
        if len(coordinates) == 4:
            return Instance(label=label, box=self._boxes.read(coordinates, size, location))
        if len(coordinates) < 6 or len(coordinates) % 2:
            raise DataError(
                f"{location}: coordinates must be 4 numbers for a box or at least 6, in pairs, for "
                f"a polygon, got {len(coordinates)}. Remove a confidence score."
            )
        mask = (
            parse_segmentation(coordinates, size, location, normalized=True) if self.masks else None
        )
        box = self._corner_boxes.read(list(polygon_to_box(coordinates)), size, location)
        return Instance(label=label, box=box, mask=mask)


def _label_file(image: Path) -> Path:
    """Return the label file of an image: the last folder `images` of its path becomes `labels`."""
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _list_images(path: Path) -> list[Path]:
    """Return the images of a folder, or those listed in a text file."""
    if path.is_dir():
        return [Path(os.path.abspath(image)) for image in iterate_images(path)]
    names = (line.strip() for line in utf8_lines(path.read_bytes(), path))
    return [Path(os.path.abspath(path.parent / name)) for name in names if name]


def _resolve_entry(file: Path, root: Any, entry: Any, split: str) -> Path:
    """Return the path of an entry of `data.yaml`.

    Tools disagree on the base of relative paths, and Roboflow writes `../train/images` for a folder
    next to the file.

    Args:
        file: The `data.yaml`.
        root: Its value `path`.
        entry: A value of the split.
        split: Name of the split, for the message.

    Raises:
        DataError: The entry is not a path, or the path does not exist.
    """
    if not isinstance(entry, str) or not isinstance(root, str | None):
        raise DataError(
            f"{file}: {split} must be a folder or a text file of images, got {short_repr(entry)}."
        )
    bases = [file.parent / root, Path(root)] if root else []
    bases += [file.parent]
    stripped = entry.lstrip("./")
    for name in (entry, stripped) if entry.startswith("..") else (entry,):
        for base in bases:
            if os.path.exists(path := base / name):  # False for a name that is too long
                return path
    raise DataError(
        f"{file}: {split} must be a path next to the file"
        f"{f' or in its path {short_repr(root)}' if root else ''}, got {short_repr(entry)}, which "
        "does not exist. "
        "Correct it."
    )


def _load_yaml(file: Path) -> dict[str, Any]:
    import yaml  # type: ignore[import-untyped]

    try:
        text = file.read_text(encoding="utf-8-sig")
        check_yaml(text)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{file}: file must be YAML ({reason}). Correct it.") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{file}: file must describe a YOLO data set, got {short_repr(content)}. Check "
            "data.path."
        )
    return content


def _load_class_names(file: Path) -> dict[int, str]:
    """Return the class names by number, sorted by number."""
    names = _load_yaml(file).get("names")
    numbered = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(numbered, dict) or not numbered:
        raise DataError(
            f"{file}: names must be a list of classes, got {short_repr(names)}. Write names: "
            "[boat, buoy]."
        )
    for number, name in numbered.items():
        if not isinstance(number, int) or not isinstance(name, str | int) or not str(name).strip():
            raise DataError(
                f"{file}: names must map class numbers to names, got {number!r}: {name!r}."
            )
    return {number: str(numbered[number]) for number in sorted(numbered)}
