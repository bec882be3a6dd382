"""CVAT for images 1.1: one XML file with all images, their boxes, polygons, masks and tags.

An image belongs to the split of its attribute `subset`; without one, all are the split `train`.
The tags of an image are its answer.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxLimits
from palitune.data.sources.labelling.regions import (
    RegionReader,
    circle_points,
    find_image,
    missing_image,
    paste_mask,
)
from palitune.data.sources.split_files import SPLITS, canonical_split, find_split_files
from palitune.data.sources.validation import (
    HeaderReader,
    are_numbers,
    cached_header_reader,
    check_size,
    collect,
    image_path,
    image_size,
    parse_xml,
    rows_or_errors,
    short_repr,
)
from palitune.errors import DataError
from palitune.records import Instance, Mask, Row, Size

_BOX_DESCRIPTION = "xtl, ytl, xbr, ybr in pixels"
_SHAPES = ("box", "polygon", "mask", "ellipse", "polyline", "points", "cuboid", "skeleton")
_FILE = "annotations.xml"


@dataclass(kw_only=True)
class Cvat(Source):
    """Rows from CVAT's XML for images: one per image."""

    name: ClassVar[str] = "cvat"
    patterns: ClassVar[tuple[str, ...]] = ("{split}.xml", "{split}/annotations.xml")

    images: str | None = None
    """Folder of the images, relative to `path` or absolute (null: search the usual folders)."""
    masks: bool = False
    """Read polygons, ellipses and masks as masks; boxes have no mask."""

    def candidates(self, split: str) -> list[Path]:
        """Return the file of a split; `annotations.xml` holds the splits of its subsets."""
        if found := super().candidates(split):
            return found
        folder = self.resolved_path()
        shared = find_split_files(folder, [_FILE], "train") if folder.is_dir() else []
        return [file for file in shared if split in (_subsets(file) or ["train"])]

    def available_splits(self) -> list[str]:
        splits = super().available_splits()
        shared = self.resolved_path() / _FILE
        others = [s for s in _subsets(shared) if s not in SPLITS] if shared.is_file() else []
        return list(dict.fromkeys([*splits, *others]))

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        root = _parse(file)
        if root.find("track") is not None:
            raise DataError(
                f"{file}: annotations must be of images, got tracks of a video. Export the task as "
                "'CVAT for images 1.1'."
            )
        images = list(root.iterfind("image"))
        is_shared = file.name == _FILE and file.parent == self.folder()
        if is_shared and len(set(map(_subset, images))) > 1:
            images = [image for image in images if _subset(image) == split]
        limits = BoxLimits(self.clip_boxes)
        reader = _CvatReader(self, file, split, limits, _class_names(root))
        yield from rows_or_errors(reader.row, images, limits.left_out)


def _parse(file: Path) -> ElementTree.Element:
    return parse_xml(file, "annotations", "Export the task as 'CVAT for images 1.1'.")


def _subset(image: ElementTree.Element) -> str:
    return canonical_split((image.get("subset") or "train").lower().replace("default", "train"))


def _subsets(file: Path) -> tuple[str, ...]:
    """Return the subsets of a file; none if it cannot be parsed, which `read` reports."""
    try:
        status = file.stat()
        return _subsets_of_version(file, status.st_mtime_ns, status.st_size)
    except (DataError, OSError):
        return ()


@lru_cache(maxsize=8)
def _subsets_of_version(file: Path, modified: int, num_bytes: int) -> tuple[str, ...]:
    """Return the subsets of a version of a file, which several questions about splits ask for."""
    return tuple(dict.fromkeys(map(_subset, _parse(file).iterfind("image"))))


def _class_names(root: ElementTree.Element) -> tuple[str, ...]:
    """Return the labels of the project in their order, else those of the objects."""
    declared = [name.text or "" for name in root.iterfind("meta/*/labels/label/name")]
    drawn = {shape.get("label") or "" for shape in root.iterfind("image/*") if shape.tag in _SHAPES}
    return tuple(dict.fromkeys(filter(None, declared or sorted(drawn))))


@dataclass
class _CvatReader:
    """Builds the row of an <image>."""

    settings: Cvat
    file: Path
    split: str
    limits: BoxLimits
    classes: tuple[str, ...]
    read_header: HeaderReader = field(default_factory=cached_header_reader)

    def __post_init__(self) -> None:
        self._regions = RegionReader(self.settings.masks, _BOX_DESCRIPTION, self.limits)

    def row(self, image: ElementTree.Element) -> Row:
        location = f"{self.file}, image id {image.get('id')}"
        name = (image.get("name") or "").replace("\\", "/")
        path = self._image(name, image.get("subset") or "", location)
        size = image_size(self.read_header, path, location)
        declared = _integer(image.get("width")), _integer(image.get("height"))
        check_size(declared, self.read_header(path), path, location)
        shapes = [element for element in image if element.tag in _SHAPES]
        tags = [tag.get("label") or "" for tag in image.iterfind("tag")]
        return Row(
            id=Path(name).with_suffix("").as_posix(),
            images=(path,),
            size=size,
            location=location,
            answers=(", ".join(tags),) if tags else None,
            instances=collect(
                lambda numbered: self._instance(
                    numbered[1], size, f"{location}, shape {numbered[0]}"
                ),
                enumerate(shapes, 1),
            ),
            classes=self.classes or None,
        )

    def _image(self, name: str, subset: str, location: str) -> str:
        if not name:
            raise DataError(f"{location}: image must have a name, got none. Export the task again.")
        root, here = self.settings.folder(), self.file.parent
        usual = [here, here / "images", root, root / "images"]
        usual += [root / "images" / inner for inner in (subset, self.split)]
        name = os.path.relpath(image_path(str(root), name, location), root)  # no URL, no drive
        found, searched = find_image([name], self.settings.images, root, usual)
        if found is None:
            raise missing_image(name, searched, location)
        return found

    def _instance(self, shape: ElementTree.Element, size: Size, location: str) -> Instance:
        label = (shape.get("label") or "").strip()
        if not label:
            raise DataError(f"{location}: {shape.tag} must have a label, got none. Drop it.")
        if shape.get("rotation") and _numbers(shape, ("rotation",), location) != [0]:
            raise DataError(
                f"{location}: rotation must be 0, got {shape.get('rotation')} degrees. Draw an "
                "upright box, or a polygon."
            )
        if shape.tag == "box":
            x0, y0, x1, y1 = _numbers(shape, ("xtl", "ytl", "xbr", "ybr"), location)
            return self._regions.rectangle(label, (x0, y0, x1, y1), size, location)
        if shape.tag == "polygon":
            return self._regions.polygons(label, [_points(shape, location)], size, location)
        if shape.tag == "ellipse":
            x, y, rx, ry = _numbers(shape, ("cx", "cy", "rx", "ry"), location)
            return self._regions.polygons(label, [circle_points(x, y, rx, ry)], size, location)
        if shape.tag == "mask":
            return self._regions.mask(label, _paste_runs(shape, size, location), location)
        raise DataError(
            f"{location}: shape must be a box, polygon, ellipse or mask, got {shape.tag}. Drop it, "
            "or draw a box."
        )


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _numbers(shape: ElementTree.Element, names: tuple[str, ...], location: str) -> list[float]:
    values = [shape.get(name) or "" for name in names]
    with suppress(ValueError):
        if are_numbers(numbers := [float(value) for value in values]):
            return numbers
    raise DataError(
        f"{location}: {', '.join(names)} must be numbers, got {short_repr(values)}. Export the "
        "task again."
    )


def _points(shape: ElementTree.Element, location: str) -> list[float]:
    """Return x, y, x, y, ... of the attribute points="x,y;x,y"."""
    text = shape.get("points") or ""
    try:
        return [float(number) for point in text.split(";") for number in point.split(",")]
    except ValueError:
        raise DataError(
            f"{location}: points must be 'x,y;x,y;...', got {short_repr(text)}. Export the task "
            "again."
        ) from None


def _paste_runs(shape: ElementTree.Element, size: Size, location: str) -> Mask:
    """Return the (height, width) mask of run lengths, which count the rows of its rectangle."""
    import numpy as np

    numbers = _numbers(shape, ("left", "top", "width", "height"), location)
    left, top, width, height = map(round, numbers)
    try:
        lengths = [int(length) for length in (shape.get("rle") or "").split(",")]
    except ValueError:
        lengths = [-1]
    fits = 0 < width <= size[0] and 0 < height <= size[1]
    if not fits or min(lengths) < 0 or sum(lengths) != width * height:
        raise DataError(
            f"{location}: mask must be run lengths that fill {width}x{height} px inside the image, "
            f"got {short_repr(shape.get('rle'))}. Export the task again."
        )
    runs = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return paste_mask(runs.reshape(height, width), left, top, size, location)
