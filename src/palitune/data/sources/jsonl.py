"""JSON Lines: one object per line, one row each.

| column | holds |
|---|---|
| image, or images | path of an image file, or a list of them, relative to the annotation file |
| id | text or a whole number, unique in the split; else `<file>-<line>` |
| prefix, suffix | prompt and target, ready-made |
| question | text |
| answer, or answers | text, or a list of acceptable texts |
| choices | list of texts |
| caption, or captions | text, or a list of texts |
| text | all text of the image in reading order |
| instances, or objects | list of `{"label": "boat", "box": [x0, y0, x1, y1]}`, in pixels |

Only the image is always needed; a task says which others it needs. `null` is an absent column.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.sources.base import Source
from palitune.data.sources.checks import (
    checked_box,
    four_numbers,
    header_reader,
    image_path,
    shown,
)
from palitune.examples import DataError, Instance, Row, Size

FORM = "[x0, y0, x1, y1] in pixels"

SPELLINGS: dict[str, tuple[str, ...]] = {
    "images": ("images", "image"),
    "id": ("id",),
    "prefix": ("prefix",),
    "suffix": ("suffix",),
    "question": ("question",),
    "answers": ("answers", "answer"),
    "choices": ("choices",),
    "captions": ("captions", "caption"),
    "text": ("text",),
    "instances": ("instances", "objects"),
}
"""The names that a column may have in a file."""


@dataclass(kw_only=True)
class Jsonl(Source):
    """Rows out of JSON Lines files."""

    name: ClassVar[str] = "jsonl"
    patterns: ClassVar[tuple[str, ...]] = (
        "{split}.jsonl",
        "{split}/metadata.jsonl",
        "{split}/annotations.jsonl",
        "{split}/{split}.jsonl",
        "annotations/{split}.jsonl",
        "_annotations.{split}.jsonl",
        "*/_annotations.{split}.jsonl",
        "{split}.json",
    )

    columns: dict[str, str] = field(default_factory=dict)
    """Name of a column in the files by its name here, e.g. {question: query}."""
    attributes: list[str] = field(default_factory=list)
    """Columns of the files by whose values numbers are reported too, e.g. [question_type]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for ours in SPELLINGS.values():
            if len(mapped := [name for name in ours if name in self.columns]) > 1:
                raise ValueError(f"data.columns: {' and '.join(mapped)} are one column, map one")
        known = [name for ours in SPELLINGS.values() for name in ours]
        if unknown := [name for name in self.columns if name not in known]:
            raise ValueError(
                f"data.columns: {unknown[0]!r} is not a column; valid are {', '.join(known)}"
            )

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        reader = _Reader(file, self.columns, self.attributes)
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.isspace():
                    yield reader.row_or_error(line, number)


class _Reader:
    """Read the lines of one file."""

    def __init__(self, file: Path, columns: dict[str, str], attributes: list[str]) -> None:
        self.file = str(file)
        self.stem = file.stem
        self.folder = os.path.abspath(file.parent)
        self.header = header_reader()
        self.mapped = columns
        self.attributes = attributes
        self.names = {
            column: tuple(columns[name] for name in ours if name in columns) or ours
            for column, ours in SPELLINGS.items()
        }

    def row_or_error(self, line: bytes, number: int) -> Row | DataError:
        try:
            return self._row(line, number, f"{self.file}:{number}")
        except DataError as mistake:
            return mistake

    def _row(self, line: bytes, number: int, place: str) -> Row:
        record = _record(line, place)
        cells = self._cells(record, place)
        images, size = self._images(cells["images"], place)
        return Row(
            id=self._id(cells["id"], number, place),
            images=images,
            size=size,
            place=place,
            prefix=_text(cells, "prefix", place),
            suffix=_text(cells, "suffix", place),
            question=_text(cells, "question", place),
            answers=_texts(cells, "answers", place),
            choices=_texts(cells, "choices", place),
            captions=_texts(cells, "captions", place),
            text=_text(cells, "text", place),
            instances=_instances(cells["instances"], size, place),
            attributes={name: _attribute(record, name, place) for name in self.attributes},
        )

    def _cells(self, record: dict[str, Any], place: str) -> dict[str, Any]:
        """Return the value of every column; None where it is absent."""
        for ours, theirs in self.mapped.items():
            if theirs not in record:
                raise DataError(
                    f"{place}: column {theirs!r}, named by data.columns.{ours}, is missing; "
                    f"the row has {_listed(record)}"
                )
        cells = {}
        for column, names in self.names.items():
            cells[column] = record.get(names[0])
            if len(names) == 2 and (other := record.get(names[1])) is not None:
                if cells[column] is not None:
                    raise DataError(
                        f"{place}: the row has {names[0]!r} and {names[1]!r}; keep one, or choose "
                        f"with data.columns.{column}={names[0]}"
                    )
                cells[column] = other
        if cells["images"] is None:
            raise DataError(
                f"{place}: column 'image' is missing; the row has {_listed(record)}; "
                "name the right one with data.columns.image=COLUMN"
            )
        return cells

    def _id(self, value: Any, number: int, place: str) -> str:
        if value is None:
            return f"{self.stem}-{number}"
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise DataError(f"{place}: id {shown(value)} must be a text or a whole number")
        return str(value)

    def _images(self, value: Any, place: str) -> tuple[tuple[str, ...], Size]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise DataError(
                f"{place}: image {shown(value)} must be the path of an image file, or a list of "
                "paths, relative to the annotation file"
            )
        images = tuple(image_path(self.folder, name, place) for name in names)
        try:
            sizes = [self.header(image).size for image in images]
        except DataError as mistake:
            raise DataError(f"{place}: {mistake}") from mistake
        return images, sizes[0]


def _record(line: bytes, place: str) -> dict[str, Any]:
    try:
        text = line.decode("utf-8-sig")
        record = json.loads(text)
        if "\\ud" in text or "\\uD" in text:  # perhaps one half of a pair, which no file can hold
            json.dumps(record, ensure_ascii=False).encode()
    except json.JSONDecodeError as mistake:
        why = f"{mistake.msg}, column {mistake.colno}"
    except (ValueError, RecursionError) as mistake:
        why = str(mistake)
    else:
        if isinstance(record, dict):
            return record
        why = f"found {shown(record)}"
    raise DataError(
        f"{place}: not an object in JSON ({why}); write one object per line, "
        'e.g. {"image": "a.png", "text": "..."}, in UTF-8'
    )


def _text(cells: dict[str, Any], column: str, place: str) -> str | None:
    value = cells[column]
    if value is None or isinstance(value, str):
        return value
    raise DataError(
        f"{place}: column {column!r} must be a text, not {shown(value)}; change it, or map "
        f"another one with data.columns.{column}=COLUMN"
    )


def _texts(cells: dict[str, Any], column: str, place: str) -> tuple[str, ...] | None:
    value = cells[column]
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise DataError(
        f"{place}: column {column!r} must be a text or a list of texts, not {shown(value)}; "
        f"change it, or map another one with data.columns.{column}=COLUMN"
    )


def _attribute(record: dict[str, Any], name: str, place: str) -> str:
    """Write a value as text: true and 3 as JSON does."""
    if name not in record:
        raise DataError(
            f"{place}: column {name!r}, named by data.attributes, is missing; the row has "
            f"{_listed(record)}"
        )
    value = record[name]
    if isinstance(value, list | dict):
        raise DataError(
            f"{place}: column {name!r} must be a text, a number or true/false to be an "
            f"attribute, not {shown(value)}; leave it out of data.attributes"
        )
    return value if isinstance(value, str) else json.dumps(value)


def _instances(value: Any, size: Size, place: str) -> tuple[Instance, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise DataError(
            f"{place}: column 'instances' must be a list of "
            f'{{"label": ..., "box": {FORM}}}, not {shown(value)}'
        )
    return tuple(_instance(written, size, place) for written in value)


def _instance(written: Any, size: Size, place: str) -> Instance:
    label = written.get("label") if isinstance(written, dict) else None
    if not isinstance(label, str) or not label.strip() or "box" not in written:
        raise DataError(
            f"{place}: instance {shown(written)} is not "
            f'{{"label": "a name", "box": {FORM}}}; rename or add what is missing'
        )
    corners = four_numbers(written["box"], place, FORM)
    return Instance(label=label, box=checked_box(corners, size, place, FORM))


def _listed(record: dict[str, Any]) -> str:
    return shown(", ".join(record)) if record else "no columns"
