"""Label Studio's JSON export: a list of tasks with their annotations.

Read are rectangles, ellipses, polygons and brush strokes with their labels (objects), choices
(answers) and text areas (texts and captions). Of several annotations of a task, one marked as
ground truth is read, else the first that was not skipped. Tasks without annotation are left out.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxLimits
from palitune.data.sources.folders import IMAGE_EXTENSIONS
from palitune.data.sources.labelling.brush_rle import decode_brush
from palitune.data.sources.labelling.regions import (
    RegionReader,
    circle_points,
    find_image,
    missing_image,
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
from palitune.errors import DataError, LeftOut
from palitune.records import Instance, Row, Size

_BOX_DESCRIPTION = "x, y, width, height in percent of the image"
_LABEL_KEYS = (
    "rectanglelabels", "ellipselabels", "polygonlabels", "brushlabels", "labels"
)  # fmt: skip
_UNREADABLE = ("video", "keypoint", "vector", "bitmask", "magicwand", "timeserieslabels")
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""Characters that Label Studio puts before the names of uploaded files."""


@dataclass(kw_only=True)
class LabelStudio(Source):
    """Rows from Label Studio's JSON export: one per task."""

    name: ClassVar[str] = "label_studio"
    patterns: ClassVar[tuple[str, ...]] = (
        "{split}.json",
        "annotations/{split}.json",
        "{split}/*.json",
    )

    images: str | None = None
    """Folder of the images, relative to `path` or absolute (null: search the usual folders)."""
    control: str | None = None
    """Name of the choices or text area to read, where a task has several (null: the only one)."""
    masks: bool = False
    """Read polygons and brush strokes as masks; rectangles have no mask."""

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        tasks = read_json(file, "Export the project as JSON.")
        if not isinstance(tasks, list) or not all(_is_task(task) for task in tasks):
            raise DataError(
                f"{file}: file must be a list of tasks with 'data' and 'annotations', got "
                f"{short_repr(tasks)}. Export the project as JSON (not JSON-MIN)."
            )
        reader = _TaskReader(self, file, BoxLimits(self.clip_boxes), _classes(tasks))
        for task in tasks:
            if _annotation(task) is None:
                yield LeftOut("tasks without annotation", _task_location(file, task))
        labelled = (task for task in tasks if _annotation(task) is not None)
        yield from rows_or_errors(reader.row, labelled, reader.limits.left_out)


def _is_task(task: Any) -> bool:
    return (
        isinstance(task, dict)
        and isinstance(task.get("data"), dict)
        and isinstance(task.get("annotations", []), list)
        and ("annotations" in task or "predictions" in task)
    )


def _annotation(task: dict[str, Any]) -> dict[str, Any] | None:
    """Return the annotation of a task to read: the ground truth, else the first not skipped."""
    annotations = [
        entry
        for entry in task.get("annotations", [])
        if isinstance(entry, dict) and not entry.get("was_cancelled")
    ]
    return next((a for a in annotations if a.get("ground_truth")), next(iter(annotations), None))


def _results(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the regions, choices and texts of a task; malformed entries are reported by `row`."""
    results = (_annotation(task) or {}).get("result")
    return [r for r in results if isinstance(r, dict)] if isinstance(results, list) else []


def _value(result: dict[str, Any]) -> dict[str, Any]:
    value = result.get("value")
    return value if isinstance(value, dict) else {}


def _is_region(result: dict[str, Any]) -> bool:
    return bool({"x", "points", "rle"} & _value(result).keys())


def _classes(tasks: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """Return the labels of all regions; None if the export has no regions."""
    regions = [r for task in tasks for r in _results(task) if _is_region(r)]
    labels = (_label([region]) for region in regions)
    return tuple(sorted({label for label in labels if label})) if regions else None


def _label(results: list[dict[str, Any]]) -> str | None:
    """Return the label of a region, else its text (in projects for text recognition)."""
    for key in (*_LABEL_KEYS, "text"):
        for result in results:
            names = _value(result).get(key)
            names = [names] if isinstance(names, str) else names
            if isinstance(names, list) and names and isinstance(names[0], str) and names[0].strip():
                return str(names[0])
    return None


def _task_location(file: Path, task: dict[str, Any]) -> str:
    return f"{file}, task {task.get('id')}"


@dataclass
class _TaskReader:
    """Builds the row of a task."""

    settings: LabelStudio
    file: Path
    limits: BoxLimits
    classes: tuple[str, ...] | None
    read_header: HeaderReader = field(default_factory=cached_header_reader)

    def __post_init__(self) -> None:
        self._regions = RegionReader(self.settings.masks, _BOX_DESCRIPTION, self.limits)

    def row(self, task: dict[str, Any]) -> Row:
        location = _task_location(self.file, task)
        results = _results(task)
        self._check_readable(task, results, location)
        path = self._image(task["data"], location)
        size = image_size(self.read_header, path, location)
        regions: dict[str, list[dict[str, Any]]] = {}
        for number, result in enumerate(results):
            regions.setdefault(str(result.get("id") or number), []).append(result)
        shapes = [group for group in regions.values() if any(map(_is_region, group))]
        instances = collect(lambda group: self._instance(group, size, path, location), shapes)
        whole = [group[0] for group in regions.values() if group not in shapes]
        answers = self._texts(whole, "choices", location)
        texts = self._texts(whole, "text", location) or tuple(
            text for group in shapes for text in self._region_texts(group)
        )
        question = task["data"].get("question")
        return Row(
            id=str(task.get("id", Path(path).stem)),
            images=(path,),
            size=size,
            location=location,
            question=question if isinstance(question, str) else None,
            answers=(", ".join(answers),) if answers else None,
            captions=texts or None,
            text="\n".join(texts) if texts else None,
            # An empty annotation means that nothing is there.
            instances=instances if self.classes is not None or not results else None,
            classes=self.classes,
        )

    def _check_readable(
        self, task: dict[str, Any], results: list[dict[str, Any]], location: str
    ) -> None:
        """Raise DataError for video, other shapes and turned images."""
        for result in results:
            kind = str(result.get("type", ""))
            if kind.startswith(_UNREADABLE) or (kind == "labels" and "ranges" in _value(result)):
                raise DataError(
                    f"{location}: {kind} cannot be read. Read are rectangles, ellipses, polygons, "
                    "brush strokes, choices and text areas of images; export the frames of videos "
                    "as images."
                )
            if result.get("image_rotation"):
                raise DataError(
                    f"{location}: image_rotation must be 0, got {result['image_rotation']}. Label "
                    "the image as it is."
                )
        if "video" in task["data"] and not any(map(_image_name, task["data"].values())):
            raise DataError(
                f"{location}: task must have an image, got a video. Export its frames as images."
            )

    def _image(self, data: dict[str, Any], location: str) -> str:
        named = [name for value in data.values() if (name := _image_name(value))]
        if not named:
            raise DataError(
                f"{location}: data must name an image file, got {short_repr(data)}. Add it."
            )
        root = self.settings.folder()
        inner = ("", "images", "upload", "media/upload", "data")
        usual = [folder / name for folder in (self.file.parent, root) for name in inner]
        base = Path(named[0]).name
        names = [named[0].lstrip("/"), base, _UPLOAD_PREFIX.sub("", base)]
        found, searched = find_image(names, self.settings.images, root, usual)
        if found is None:
            raise missing_image(base, searched, location)
        return found

    def _instance(
        self, group: list[dict[str, Any]], size: Size, path: str, location: str
    ) -> Instance:
        region = next(filter(_is_region, group))
        location = f"{location}, region {region.get('id')}"
        declared = region.get("original_width"), region.get("original_height")
        check_size(declared, self.read_header(path), path, location)
        label = _label(group)
        if label is None:
            raise DataError(f"{location}: region must have a label, got none. Label or drop it.")
        value = _value(region)
        if value.get("rotation"):
            raise DataError(
                f"{location}: rotation must be 0, got {value['rotation']} degrees. Draw an upright "
                "rectangle, or a polygon."
            )
        if "rle" in value:
            return self._brush(label, value["rle"], size, location)
        if "points" in value:
            points = value["points"]
            if not isinstance(points, list) or not all(_is_point(point) for point in points):
                raise DataError(
                    f"{location}: points must be a list of [x, y] in percent, got "
                    f"{short_repr(points)}. Export the project again."
                )
            polygon = [c * side / 100 for p in points for c, side in zip(p, size, strict=True)]
            return self._regions.polygons(label, [polygon], size, location)
        if "radiusX" in value:
            x, y, rx, ry = self._pixels(value, ("x", "y", "radiusX", "radiusY"), size, location)
            return self._regions.polygons(label, [circle_points(x, y, rx, ry)], size, location)
        x, y, width, height = self._pixels(value, ("x", "y", "width", "height"), size, location)
        corners = (x, y, round(x + width, 2), round(y + height, 2))
        return self._regions.rectangle(label, corners, size, location)

    def _pixels(
        self, value: dict[str, Any], keys: tuple[str, ...], size: Size, location: str
    ) -> list[float]:
        numbers = [value.get(key) for key in keys]
        if not are_numbers(numbers):
            raise DataError(
                f"{location}: {', '.join(keys)} must be numbers in percent of the image, got "
                f"{short_repr(numbers)}. Export the project again."
            )
        pairs = zip(numbers, size * 2, strict=True)
        return [round(float(number or 0) * side / 100, 2) for number, side in pairs]

    def _brush(self, label: str, rle: Any, size: Size, location: str) -> Instance:
        try:
            mask = decode_brush(rle, size)
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{location}: brush stroke must be run lengths of the image's size ({error}). "
                "Export the project again."
            ) from error
        return self._regions.mask(label, mask, location)

    def _texts(self, results: list[dict[str, Any]], key: str, location: str) -> tuple[str, ...]:
        """Return the choices or texts of one control of a task."""
        by_control: dict[str, list[str]] = {}
        for result in results:
            texts = _value(result).get(key)
            texts = [texts] if isinstance(texts, str) else texts
            if isinstance(texts, list):
                flat = [
                    t for entry in texts for t in (entry if isinstance(entry, list) else [entry])
                ]
                by_control.setdefault(str(result.get("from_name")), []).extend(map(str, flat))
        if self.settings.control in by_control:
            return tuple(by_control[str(self.settings.control)])
        if len(by_control) > 1 and self.settings.control is None:
            raise DataError(
                f"{location}: task must have one control with {key}, got {', '.join(by_control)}. "
                "Set data.control=NAME."
            )
        return tuple(text for texts in by_control.values() for text in texts)

    def _region_texts(self, group: list[dict[str, Any]]) -> Iterator[str]:
        for result in group:
            texts = _value(result).get("text")
            yield from map(str, texts if isinstance(texts, list) else [texts] if texts else [])


def _is_point(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2 and are_numbers(point)


def _image_name(value: Any) -> str | None:
    """Return the path in a link to an image: an upload, a local file, or one of a cloud store."""
    if not isinstance(value, str):
        return None
    link = urlsplit(value.replace("\\", "/"))
    local = parse_qs(link.query).get("d")
    name = unquote(local[0] if local else link.path)
    name = name.removeprefix("/data/upload/").removeprefix("/data/local-files/")
    return name if name.lower().endswith(IMAGE_EXTENSIONS) else None
