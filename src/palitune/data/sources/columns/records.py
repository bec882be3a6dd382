"""Rows from records: dictionaries of columns, such as lines of JSON or rows of a table.

| column | content |
|---|---|
| image, or images | path of an image file, or a list of them, relative to the annotation file |
| video | path of a video; the images are the frames that `frames` selects |
| start, end | segment of the video, in seconds |
| id | text or integer, unique in the split (default: `<file>-<number>`) |
| prefix, suffix | complete prompt and target |
| question | text |
| answer, or answers | text, or a list of acceptable texts |
| choices | list of texts |
| hint | context of the question |
| caption, or captions | text, or a list of texts |
| text | all text of the image in reading order |
| json | fields of a document: a JSON object, or its text |
| expression | referring expression for the instances |
| instances, or objects | see `palitune.data.sources.columns.objects` |

`file_name` and `ground_truth` (`{"gt_parse": {...}}`) of Donut's `metadata.jsonl` stand for `image`
and `json` if there is no such column.

Only the image or the video is always required; the other requirements depend on the task. `null`
means that the column is absent.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.data.images.video import VideoSampling
from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxFormat, BoxLimits
from palitune.data.sources.columns.objects import ObjectReader
from palitune.data.sources.validation import (
    Faults,
    cached_header_reader,
    collect,
    image_path,
    image_size,
    rows_or_errors,
    short_repr,
)
from palitune.errors import DataError
from palitune.records import Row, Size

COLUMN_ALIASES: dict[str, tuple[str, ...]] = {
    "images": ("images", "image", "file_name"),
    "video": ("video",),
    "start": ("start",),
    "end": ("end",),
    "id": ("id",),
    "prefix": ("prefix",),
    "suffix": ("suffix",),
    "question": ("question",),
    "answers": ("answers", "answer"),
    "choices": ("choices",),
    "hint": ("hint",),
    "captions": ("captions", "caption"),
    "text": ("text",),
    "json": ("json", "ground_truth"),
    "expression": ("expression",),
    "instances": ("instances", "objects"),
}
"""Accepted names of each column in a file."""

_MAX_NUMBER = 1e300
"""Numbers that are texts: not infinite, not NaN, and not too long to be written."""
_MAX_KNOWN_COLUMNS = 1000
_MAX_KNOWN_IMAGES = 1 << 18
"""Images whose path and size are kept in memory while a file is read: about 80 MB."""
_FALLBACK_NAMES = ("file_name", "ground_truth")
"""Names that are read only if no other name of their column is present."""


@dataclass(kw_only=True)
class RecordSource(Source):
    """Settings of the formats with one record per row."""

    columns: dict[str, str] = field(default_factory=dict)
    """Mapping from column names here to column names in the files, e.g. {question: query}."""
    attributes: list[str] = field(default_factory=list)
    """Columns of the files by whose values metrics are also reported, e.g. [question_type]."""
    frames: VideoSampling = field(default_factory=VideoSampling)
    """Selection of the frames of a video."""
    box_format: BoxFormat | None = None
    """Format of boxes: xyxy | xywh | cxcywh (null: `box` is xyxy, `bbox` is an error)."""
    normalized: bool = False
    """Boxes and polygons are fractions of the image's sides instead of pixels."""
    masks: bool = False
    """Read the masks of instances."""
    classes: list[str] = field(default_factory=list)
    """All classes, in the order of prompts; numeric labels count from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for ours in COLUMN_ALIASES.values():
            if len(mapped := [name for name in ours if name in self.columns]) > 1:
                raise ValueError(
                    f"data.columns must map one of {' and '.join(mapped)}, got both. Remove one."
                )
        valid = [name for ours in COLUMN_ALIASES.values() for name in ours]
        if unknown := [name for name in self.columns if name not in valid]:
            raise ValueError(
                f"data.columns must map {', '.join(valid)}, got {unknown[0]!r}. Use one of these."
            )


class RecordReader:
    """Build rows from the records of one file."""

    def __init__(self, source: RecordSource, file: Path, classes: Sequence[str] = ()) -> None:
        """Prepare reading; `classes` of the file are used if the settings have none."""
        self.stem = file.stem
        self.folder = os.path.abspath(file.parent)
        self.read_header = cached_header_reader()
        self.known_images: dict[str, tuple[str, Size]] = {}
        """Path and size of an image by its cell, for rows that share an image."""
        self.known_columns: dict[tuple[str, ...], dict[str, str] | None] = {}
        """Name of each column in records of the same names; None if two names compete."""
        self.video_sampling = source.frames
        self.classes = tuple(source.classes) or tuple(classes)
        self.limits = BoxLimits(source.clip_boxes)
        self.object_reader = ObjectReader(
            source.box_format, source.normalized, source.masks, self.classes, self.limits
        )
        self.column_mapping = source.columns
        self.attributes = source.attributes
        self.column_names = {
            column: tuple(self.column_mapping[name] for name in ours if name in self.column_mapping)
            or ours
            for column, ours in COLUMN_ALIASES.items()
        }
        self.columns_by_name: dict[str, list[str]] = {}
        for column, names in self.column_names.items():
            for name in names:
                self.columns_by_name.setdefault(name, []).append(column)

    def rows(self, records: Iterable[dict[str, Any]], location: str) -> Iterator[Row | DataError]:
        """Yield the row of each record, or its DataError.

        Args:
            records: The columns and values of each record.
            location: Place of the records; a message appends the number of the record, from 1.
        """
        return rows_or_errors(
            lambda numbered: self.row(numbered[1], numbered[0], f"{location}{numbered[0]}"),
            enumerate(records, 1),
            self.limits.left_out,
        )

    def numbered_rows(
        self, records: Iterable[dict[str, Any]], number: int, location: str
    ) -> Iterator[Row | DataError]:
        """Yield the rows of the records that share one number and location in a file."""
        yield from rows_or_errors(
            lambda record: self.row(record, number, location), records, self.limits.left_out
        )

    def row(self, record: dict[str, Any], number: int, location: str) -> Row:
        """Return the row of a record. Raises DataError with `location` in it.

        Args:
            record: The columns of the file and their values.
            number: Position of the record, for its default id.
            location: Place of the record, for messages.
        """
        cells = self._cells(record, location)
        faults = Faults()
        values: dict[str, Any] = {
            column: faults.catch(_CELL_PARSERS[column], cells, column, location)
            for column in cells
            if column in _CELL_PARSERS
        }
        row_id = faults.catch(self._id, cells.get("id"), number, location)
        attributes = faults.catch(self._attribute_values, record, location)
        images, size = faults.catch(self._image_paths_and_size, cells, location) or ((), None)
        if size is not None and "instances" in cells:
            values["instances"] = faults.catch(
                self.object_reader.instances, cells["instances"], size, location
            )
        faults.raise_all()
        assert row_id is not None
        assert attributes is not None
        assert size is not None
        return Row(
            id=row_id,
            images=images,
            size=size,
            location=location,
            json=_json_cell(cells["json"]) if "json" in cells else None,
            classes=self.classes or None,
            attributes=attributes,
            **values,
        )

    def _attribute_values(self, record: dict[str, Any], location: str) -> dict[str, str]:
        if not self.attributes:
            return {}
        values = collect(lambda name: _attribute_value(record, name, location), self.attributes)
        return dict(zip(self.attributes, values, strict=True))

    def resolve_image(self, cell: Any, location: str) -> str | None:
        """Return the path of one image; None if the cell does not hold an image."""
        return image_path(self.folder, cell, location) if isinstance(cell, str) else None

    def _cells(self, record: dict[str, Any], location: str) -> dict[str, Any]:
        """Return the value of each column that is present."""
        names = tuple(record)
        if names not in self.known_columns:
            if len(self.known_columns) == _MAX_KNOWN_COLUMNS:
                self.known_columns.clear()
            self.known_columns[names] = self._unambiguous_columns(record, location)
        if (name_by_column := self.known_columns[names]) is None:
            cells = self._ambiguous_cells(record, location)
        else:
            cells = {
                column: value
                for column, name in name_by_column.items()
                if (value := record[name]) is not None
            }
        if ("images" in cells) == ("video" in cells):
            if "video" in cells:
                raise DataError(
                    f"{location}: row must have an image or a video, got both. Remove one."
                )
            raise DataError(
                f"{location}: column 'image' must be present, got {_column_list(record)}. Set "
                "data.columns.image=COLUMN."
            )
        return cells

    def _unambiguous_columns(self, record: dict[str, Any], location: str) -> dict[str, str] | None:
        """Return the name of each column of a record; None if a column has several names."""
        for ours, theirs in self.column_mapping.items():
            if theirs not in record:
                raise DataError(
                    f"{location}: column {theirs!r} (data.columns.{ours}) must be present, got "
                    f"{_column_list(record)}. Set the right name."
                )
        pairs = [(column, name) for name in record for column in self.columns_by_name.get(name, ())]
        name_by_column = dict(pairs)
        return name_by_column if len(name_by_column) == len(pairs) else None

    def _ambiguous_cells(self, record: dict[str, Any], location: str) -> dict[str, Any]:
        """Return the value of each column of a record whose columns have several names."""
        cells: dict[str, Any] = {}
        names_by_column: dict[str, list[str]] = {}
        for name, value in record.items():
            if value is not None:
                for column in self.columns_by_name.get(name, ()):
                    names_by_column.setdefault(column, []).append(name)
                    cells[column] = value
        for column, names in names_by_column.items():
            if len(names) > 1:
                cells[column] = record[self._only_name(column, names, location)]
        return cells

    def _only_name(self, column: str, names: list[str], location: str) -> str:
        """Return which of several present names of a column is read."""
        ordered = [name for name in self.column_names[column] if name in names]
        present = [name for name in ordered if name not in _FALLBACK_NAMES] or ordered
        if len(present) > 1:
            raise DataError(
                f"{location}: row must have one of {present[0]!r} and {present[1]!r}, "
                f"got both. Remove one, or set data.columns.{column}={present[0]}."
            )
        return present[0]

    def _id(self, value: Any, number: int, location: str) -> str:
        if value is None:
            return f"{self.stem}-{number}"
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise DataError(
                f"{location}: id must be a text or an integer, got {short_repr(value)}."
            )
        return str(value)

    def _image_paths_and_size(
        self, cells: dict[str, Any], location: str
    ) -> tuple[tuple[str, ...], Size]:
        if "video" in cells:
            paths = self._frame_paths(cells, location)
            sizes = [image_size(self.read_header, path, location) for path in paths]
            return paths, sizes[0]
        value = cells["images"]
        entries = value if isinstance(value, list) else [value]
        images = [image for entry in entries if (image := self._image(entry, location)) is not None]
        if not images or len(images) < len(entries):
            raise DataError(
                f"{location}: image must be the path of an image file or a list of paths, "
                f"relative to the annotation file, got {short_repr(value)}."
            )
        return tuple(path for path, _ in images), images[0][1]

    def _image(self, cell: Any, location: str) -> tuple[str, Size] | None:
        """Return path and size of one image; None if the cell does not hold an image."""
        is_path = isinstance(cell, str)
        if is_path and (known := self.known_images.get(cell)) is not None:
            return known
        if (path := self.resolve_image(cell, location)) is None:
            return None
        image = path, image_size(self.read_header, path, location)
        if is_path and len(self.known_images) < _MAX_KNOWN_IMAGES:
            self.known_images[cell] = image
        return image

    def _frame_paths(self, cells: dict[str, Any], location: str) -> tuple[str, ...]:
        if not isinstance(cells["video"], str):
            raise DataError(
                f"{location}: video must be the path of a file, got {short_repr(cells['video'])}."
            )
        start, end = (_seconds_cell(cells, column, location) for column in ("start", "end"))
        try:
            return self.video_sampling.extract(
                image_path(self.folder, cells["video"], location), start or 0.0, end
            )
        except DataError as error:
            raise DataError(f"{location}: {error}") from error


def _seconds_cell(cells: dict[str, Any], column: str, location: str) -> float | None:
    value = cells.get(column)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise DataError(f"{location}: column {column!r} must be seconds, got {short_repr(value)}.")


def _number_as_text(value: Any) -> Any:
    """Return a number as it is written in JSON; other values as they are."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return json.dumps(value) if is_number and abs(value) < _MAX_NUMBER else value


def _text_cell(cells: dict[str, Any], column: str, location: str) -> str | None:
    value = _number_as_text(cells[column])
    if value is None or isinstance(value, str):
        return value
    raise DataError(
        f"{location}: column {column!r} must be a text, got {short_repr(value)}. Correct it, or "
        f"set data.columns.{column}=COLUMN."
    )


def _text_list_cell(cells: dict[str, Any], column: str, location: str) -> tuple[str, ...] | None:
    value = _number_as_text(cells[column])
    if isinstance(value, list):
        value = [_number_as_text(entry) for entry in value]
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise DataError(
        f"{location}: column {column!r} must be a text or a list of texts, got "
        f"{short_repr(value)}. Correct it, or set data.columns.{column}=COLUMN."
    )


_CELL_PARSERS = {
    **dict.fromkeys(("prefix", "suffix", "question", "hint", "text", "expression"), _text_cell),
    **dict.fromkeys(("answers", "choices", "captions"), _text_list_cell),
}


def _json_cell(value: Any) -> str | None:
    """Return the text of a cell with JSON, also of Donut's `gt_parse` or the first of `gt_parses`.

    A text that is no JSON is returned as it is; the task reports it if it uses the column.
    """
    parsed = value
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return value
    if isinstance(parsed, dict) and isinstance(parses := parsed.get("gt_parses"), list) and parses:
        parsed = parses[0]
    elif isinstance(parsed, dict):
        parsed = parsed.get("gt_parse", parsed)
    return None if parsed is None else json.dumps(parsed, ensure_ascii=False, default=str)


def _attribute_value(record: dict[str, Any], name: str, location: str) -> str:
    """Return a value as text, numbers and booleans in JSON notation."""
    if name not in record:
        raise DataError(
            f"{location}: column {name!r} (data.attributes) must be present, got "
            f"{_column_list(record)}. Set the right name."
        )
    value = record[name]
    if isinstance(value, list | dict):
        raise DataError(
            f"{location}: column {name!r} must be a text, a number or a boolean to be an "
            f"attribute, got {short_repr(value)}. Remove it from data.attributes."
        )
    return value if isinstance(value, str) else json.dumps(value)


def _column_list(record: dict[str, Any]) -> str:
    return f"columns {short_repr(', '.join(record))}" if record else "no columns"
