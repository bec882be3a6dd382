"""Rows out of records: dictionaries of columns, as lines of JSON or rows of a table hold them.

| column | holds |
|---|---|
| image, or images | path of an image file, or a list of them, relative to the annotation file |
| video | path of a video, of which `frames` are the images |
| start, end | seconds: the part of the video that is meant |
| id | text or a whole number, unique in the split; else `<file>-<number>` |
| prefix, suffix | prompt and target, ready-made |
| question | text |
| answer, or answers | text, or a list of acceptable texts |
| choices | list of texts |
| hint | text that goes with the question |
| caption, or captions | text, or a list of texts |
| text | all text of the image in reading order |
| expression | words that refer to the instances |
| instances, or objects | see `palitune.data.sources.object_columns` |

Only the image, or the video, is always needed; a task says which others it needs. `null` is an
absent column.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palitune.data.images.video import VideoSampling
from palitune.data.sources.base import Source
from palitune.data.sources.box_formats import BoxFormat
from palitune.data.sources.object_columns import ObjectReader
from palitune.data.sources.validation import (
    cached_header_reader,
    image_path,
    image_size,
    short_repr,
)
from palitune.errors import DataError
from palitune.records import Row, Size

COLUMN_ALIASES: dict[str, tuple[str, ...]] = {
    "images": ("images", "image"),
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
    "expression": ("expression",),
    "instances": ("instances", "objects"),
}
"""The names that a column may have in a file."""


@dataclass(kw_only=True)
class RecordSource(Source):
    """Settings of the formats that hold a record per row."""

    columns: dict[str, str] = field(default_factory=dict)
    """Name of a column in the files by its name here, e.g. {question: query}."""
    attributes: list[str] = field(default_factory=list)
    """Columns of the files by whose values numbers are reported too, e.g. [question_type]."""
    frames: VideoSampling = field(default_factory=VideoSampling)
    """Which frames of a video are the images of its row."""
    box_format: BoxFormat | None = None
    """How boxes are written: xyxy | xywh | cxcywh; null: `box` is xyxy, `bbox` has to be told."""
    normalized: bool = False
    """Boxes and polygons are fractions of the image's sides instead of pixels."""
    masks: bool = False
    """Read the masks of instances, too."""
    classes: list[str] = field(default_factory=list)
    """Every class, in the order in which prompts name them; numbered labels count from 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for ours in COLUMN_ALIASES.values():
            if len(mapped := [name for name in ours if name in self.columns]) > 1:
                raise ValueError(f"data.columns: {' and '.join(mapped)} are one column, map one")
        known = [name for ours in COLUMN_ALIASES.values() for name in ours]
        if unknown := [name for name in self.columns if name not in known]:
            raise ValueError(
                f"data.columns: {unknown[0]!r} is not a column; valid are {', '.join(known)}"
            )


class RecordReader:
    """Turn the records of one file into rows."""

    def __init__(self, source: RecordSource, file: Path, classes: Sequence[str] = ()) -> None:
        """`classes` are the names that the file itself gives, if the settings give none."""
        self.stem = file.stem
        self.folder = os.path.abspath(file.parent)
        self.read_header = cached_header_reader()
        self.video_sampling = source.frames
        self.classes = tuple(source.classes) or tuple(classes)
        self.object_reader = ObjectReader(
            source.box_format, source.normalized, source.masks, self.classes
        )
        self.column_mapping = source.columns
        self.attributes = source.attributes
        self.column_names = {
            column: tuple(self.column_mapping[name] for name in ours if name in self.column_mapping)
            or ours
            for column, ours in COLUMN_ALIASES.items()
        }

    def row(self, record: dict[str, Any], number: int, location: str) -> Row:
        """Return the row of a record. Raises DataError, naming the place."""
        cells = self._cells(record, location)
        images, size = self._image_paths_and_size(cells, location)
        return Row(
            id=self._id(cells["id"], number, location),
            images=images,
            size=size,
            location=location,
            prefix=_text_cell(cells, "prefix", location),
            suffix=_text_cell(cells, "suffix", location),
            question=_text_cell(cells, "question", location),
            answers=_text_list_cell(cells, "answers", location),
            choices=_text_list_cell(cells, "choices", location),
            hint=_text_cell(cells, "hint", location),
            captions=_text_list_cell(cells, "captions", location),
            text=_text_cell(cells, "text", location),
            expression=_text_cell(cells, "expression", location),
            instances=self.object_reader.instances(cells["instances"], size, location),
            classes=self.classes or None,
            attributes={name: _attribute_value(record, name, location) for name in self.attributes},
        )

    def resolve_image(self, cell: Any, location: str) -> str | None:
        """Return the path of one image; None where the cell is no image."""
        return image_path(self.folder, cell, location) if isinstance(cell, str) else None

    def _cells(self, record: dict[str, Any], location: str) -> dict[str, Any]:
        """Return the value of every column; None where it is absent."""
        for ours, theirs in self.column_mapping.items():
            if theirs not in record:
                raise DataError(
                    f"{location}: column {theirs!r}, named by data.columns.{ours}, is missing; "
                    f"the row has {_column_list(record)}"
                )
        cells = {}
        for column, names in self.column_names.items():
            cells[column] = record.get(names[0])
            if len(names) == 2 and (other := record.get(names[1])) is not None:
                if cells[column] is not None:
                    raise DataError(
                        f"{location}: the row has {names[0]!r} and {names[1]!r}; keep one, or choose "
                        f"with data.columns.{column}={names[0]}"
                    )
                cells[column] = other
        if (cells["images"] is None) == (cells["video"] is None):
            if cells["video"] is not None:
                raise DataError(f"{location}: the row has an image and a video; keep one of them")
            raise DataError(
                f"{location}: column 'image' is missing; the row has {_column_list(record)}; "
                "name the right one with data.columns.image=COLUMN"
            )
        return cells

    def _id(self, value: Any, number: int, location: str) -> str:
        if value is None:
            return f"{self.stem}-{number}"
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise DataError(f"{location}: id {short_repr(value)} must be a text or a whole number")
        return str(value)

    def _image_paths_and_size(
        self, cells: dict[str, Any], location: str
    ) -> tuple[tuple[str, ...], Size]:
        if cells["video"] is not None:
            found = self._frame_paths(cells, location)
        else:
            value = cells["images"]
            listed = value if isinstance(value, list) else [value]
            images = [self.resolve_image(cell, location) for cell in listed]
            if not images or None in images:
                raise DataError(
                    f"{location}: image {short_repr(value)} must be the path of an image file, or a list "
                    "of paths, relative to the annotation file"
                )
            found = tuple(image for image in images if image is not None)
        sizes = [image_size(self.read_header, image, location) for image in found]
        return found, sizes[0]

    def _frame_paths(self, cells: dict[str, Any], location: str) -> tuple[str, ...]:
        if not isinstance(cells["video"], str):
            raise DataError(
                f"{location}: video {short_repr(cells['video'])} must be the path of a file"
            )
        start, end = (_seconds_cell(cells, column, location) for column in ("start", "end"))
        try:
            return self.video_sampling.extract(
                image_path(self.folder, cells["video"], location), start or 0.0, end
            )
        except DataError as mistake:
            raise DataError(f"{location}: {mistake}") from mistake


def _seconds_cell(cells: dict[str, Any], column: str, location: str) -> float | None:
    value = cells[column]
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise DataError(f"{location}: column {column!r} must be seconds, not {short_repr(value)}")


def _text_cell(cells: dict[str, Any], column: str, location: str) -> str | None:
    value = cells[column]
    if value is None or isinstance(value, str):
        return value
    raise DataError(
        f"{location}: column {column!r} must be a text, not {short_repr(value)}; change it, or map "
        f"another one with data.columns.{column}=COLUMN"
    )


def _text_list_cell(cells: dict[str, Any], column: str, location: str) -> tuple[str, ...] | None:
    value = cells[column]
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise DataError(
        f"{location}: column {column!r} must be a text or a list of texts, not {short_repr(value)}; "
        f"change it, or map another one with data.columns.{column}=COLUMN"
    )


def _attribute_value(record: dict[str, Any], name: str, location: str) -> str:
    """Write a value as text: true and 3 as JSON does."""
    if name not in record:
        raise DataError(
            f"{location}: column {name!r}, named by data.attributes, is missing; the row has "
            f"{_column_list(record)}"
        )
    value = record[name]
    if isinstance(value, list | dict):
        raise DataError(
            f"{location}: column {name!r} must be a text, a number or true/false to be an "
            f"attribute, not {short_repr(value)}; leave it out of data.attributes"
        )
    return value if isinstance(value, str) else json.dumps(value)


def _column_list(record: dict[str, Any]) -> str:
    return short_repr(", ".join(record)) if record else "no columns"
