"""LabelMe: a JSON file per image with rectangles, polygons, circles and masks.

Shapes of one label and one `group_id` are one object. A flag of the image that is set is its
answer. The image is `imagePath`, else an image of the file's name, else the `imageData` in the
file.
"""

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import hypot
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.images.extracted import extract_to_cache
from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxLimits
from palitune.data.sources.folders import IMAGE_EXTENSIONS, walk_files
from palitune.data.sources.labelling.regions import (
    RegionReader,
    circle_points,
    find_image,
    missing_image,
    paste_mask,
)
from palitune.data.sources.validation import (
    HeaderReader,
    are_numbers,
    cached_header_reader,
    check_size,
    collect,
    image_size,
    read_json,
    rows_or_errors,
    short_repr,
)
from palitune.errors import DataError
from palitune.records import Instance, Mask, Row, Size

_BOX_DESCRIPTION = "two corners [x, y] in pixels"


@dataclass(kw_only=True)
class LabelMe(Source):
    """Rows from LabelMe files: one per image."""

    name: ClassVar[str] = "labelme"
    patterns: ClassVar[tuple[str, ...]] = (
        "{split}",
        "annotations/{split}",
        "labels/{split}",
        "{split}/annotations",
        "{split}/labels",
    )
    accepts_folders: ClassVar[bool] = True

    images: str | None = None
    """Folder of the images, relative to `path` or absolute (null: search the usual folders)."""
    masks: bool = False
    """Read polygons, circles and masks as masks; rectangles have no mask."""

    def candidates(self, split: str) -> list[Path]:
        """Return the folder of a split; a folder with JSON files itself is the split `train`."""
        if found := super().candidates(split):
            return found
        folder = self.resolved_path()
        is_flat = folder.is_dir() and any(folder.glob("*.json"))
        return [folder] if split == "train" and is_flat and not self.splits else []

    def files(self, split: str) -> Iterable[Path]:
        folder = self.annotation_file(split)
        yield folder
        yield from _annotation_files(folder)

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        files = list(_annotation_files(file))
        limits, contents = BoxLimits(self.clip_boxes), _readable_contents(files)
        reader = _LabelMeReader(self, file, limits, contents, _class_names(contents.values()))
        yield from rows_or_errors(reader.row, files, limits.left_out)


def _annotation_files(folder: Path) -> Iterator[Path]:
    if folder.is_file():
        yield folder
        return
    yield from (file for file in walk_files(folder) if file.suffix.lower() == ".json")


def is_labelme(content: Any) -> bool:
    """Return whether the content of a JSON file is an annotation of LabelMe."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def _load(file: Path) -> dict[str, Any]:
    content = read_json(file, "Save it again.")
    if not is_labelme(content):
        raise DataError(
            f"{file}: file must be an object with a list 'shapes', got {short_repr(content)}. Use "
            "the files that LabelMe writes."
        )
    return dict(content)


def _readable_contents(files: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """Return the contents of all files without their images; faults are reported by `row`."""
    contents = {}
    for file in files:
        try:
            contents[file] = _load(file)
        except (DataError, OSError):
            continue
        if contents[file].get("imageData"):
            contents[file]["imageData"] = True  # read again where it is needed
    return contents


def _class_names(contents: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """Return the labels of all shapes, in alphabetical order."""
    shapes = (shape for content in contents for shape in content["shapes"])
    return tuple(sorted({s["label"] for s in shapes if isinstance(s, dict) and _has_label(s)}))


def _has_label(shape: dict[str, Any]) -> bool:
    return isinstance(shape.get("label"), str) and bool(shape["label"].strip())


@dataclass
class _LabelMeReader:
    """Builds the row of a file."""

    settings: LabelMe
    folder: Path
    limits: BoxLimits
    contents: dict[Path, dict[str, Any]]
    """Contents of the files that could be read, from `_readable_contents`."""
    classes: tuple[str, ...]
    read_header: HeaderReader = field(default_factory=cached_header_reader)

    def __post_init__(self) -> None:
        self._regions = RegionReader(self.settings.masks, _BOX_DESCRIPTION, self.limits)

    def row(self, file: Path) -> Row:
        content = self.contents.get(file) or _load(file)
        path = self._image(content, file)
        size = image_size(self.read_header, path, str(file))
        declared = content.get("imageWidth"), content.get("imageHeight")
        check_size(declared, self.read_header(path), path, str(file))
        flags = content.get("flags")
        names = flags.items() if isinstance(flags, dict) else ()
        answers = [name for name, is_set in names if is_set is True]
        groups: dict[Any, list[tuple[int, Any]]] = {}
        for number, shape in enumerate(content["shapes"], 1):
            group = shape.get("group_id") if isinstance(shape, dict) else None
            key = number if group is None else (str(shape.get("label")), str(group))
            groups.setdefault(key, []).append((number, shape))
        inside = file.relative_to(self.folder) if self.folder.is_dir() else Path(file.name)
        return Row(
            id=inside.with_suffix("").as_posix(),
            images=(path,),
            size=size,
            location=str(file),
            answers=(", ".join(answers),) if answers else None,
            instances=collect(lambda group: self._instance(group, size, file), groups.values()),
            classes=self.classes or None,
        )

    def _image(self, content: dict[str, Any], file: Path) -> str:
        declared = content.get("imagePath")
        named = declared.replace("\\", "/") if isinstance(declared, str) else ""
        root = self.settings.folder()
        usual = [
            f / name for f in (file.parent, file.parent.parent, root) for name in ("", "images")
        ]
        usual.append(root / "images" / file.parent.name)
        names = [named, Path(named).name] if named else []
        names += [file.stem + extension for extension in IMAGE_EXTENSIONS]
        found, searched = find_image(names, self.settings.images, root, usual)
        if found is not None:
            return found
        if content.get("imageData"):
            return _embedded_image(file)
        raise missing_image(Path(named or file.stem).name, searched, str(file))

    def _instance(self, group: list[tuple[int, Any]], size: Size, file: Path) -> Instance:
        """Return the object of the shapes of one group."""
        location = f"{file}, shape {group[0][0]}"
        parts = [self._shape(shape, size, f"{file}, shape {number}") for number, shape in group]
        if len(parts) == 1:
            return parts[0]
        x0, y0, x1, y1 = zip(*(part.box for part in parts), strict=True)
        corners = (min(x0), min(y0), max(x1), max(y1))
        union = self._regions.rectangle(parts[0].label, corners, size, location)
        masks = [part.mask for part in parts if part.mask is not None]
        if len(masks) < len(parts):
            return union
        mask = masks[0]
        for other in masks[1:]:
            mask = mask | other
        return Instance(union.label, union.box, mask)

    def _shape(self, shape: Any, size: Size, location: str) -> Instance:
        if not isinstance(shape, dict) or not _has_label(shape):
            raise DataError(f"{location}: shape must have a label, got {short_repr(shape)}.")
        kind, points = shape.get("shape_type") or "polygon", shape.get("points")
        valid = isinstance(points, list) and all(
            isinstance(point, list) and len(point) == 2 and are_numbers(point) for point in points
        )
        if not valid or not points:
            raise DataError(
                f"{location}: points must be a list of [x, y] in pixels, got {short_repr(points)}."
            )
        label, flat = shape["label"], [float(side) for point in points for side in point]
        if kind == "polygon":
            return self._regions.polygons(label, [flat], size, location)
        if kind in ("rectangle", "circle", "mask") and len(points) == 2:
            x0, y0, x1, y1 = flat
            corners = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
            if kind == "rectangle":
                return self._regions.rectangle(label, corners, size, location)
            if kind == "mask":
                mask = _decode_mask(shape.get("mask"), corners, size, location)
                return self._regions.mask(label, mask, location)
            radius = hypot(x1 - x0, y1 - y0)
            circle = circle_points(x0, y0, radius, radius)
            return self._regions.polygons(label, [circle], size, location)
        raise DataError(
            f"{location}: shape_type must be rectangle, polygon, circle or mask, got {kind!r} of "
            f"{len(points)} points. Draw an upright rectangle or a polygon."
        )


def _embedded_image(file: Path) -> str:
    """Return the path of the image in a file, extracted to the cache."""
    try:
        return extract_to_cache(base64.b64decode(_load(file)["imageData"], validate=True))
    except (TypeError, ValueError) as error:
        raise DataError(f"{file}: imageData must be base64 ({error}). Save it again.") from error


def _decode_mask(
    encoded: Any, corners: tuple[float, float, float, float], size: Size, location: str
) -> Mask:
    """Return the (height, width) mask of a base64 PNG whose first corner is at `corners`."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(encoded, validate=True))) as image:
            part = np.asarray(image.convert("L")) > 0
    except (TypeError, ValueError, OSError) as error:
        raise DataError(
            f"{location}: mask must be a base64 PNG ({error}). Save it again."
        ) from error
    return paste_mask(part, round(corners[0]), round(corners[1]), size, location)
