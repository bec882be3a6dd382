"""CSV with a header: one record per line, or one box per line.

The columns are those of `columns.records`. With columns for a class and the corners of a box
(`xmin`, `ymin`, `xmax`, `ymax`, in pixels), every line is a box and an image has all its lines; a
line without a class and box is an image without objects.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.sources.columns.records import RecordReader, RecordSource
from palitune.data.sources.validation import Faults, utf8_lines
from palitune.errors import DataError
from palitune.records import Row

_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"),
    ("x0", "y0", "x1", "y1"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"),
)  # fmt: skip
_LABELS = ("class", "label", "class_name", "category", "name")
_IMAGES = ("image", "filename", "file_name", "image_path", "path", "image_id")
_DELIMITERS = ",;\t"


@dataclass(kw_only=True)
class Csv(RecordSource):
    """Rows from CSV files with a header."""

    name: ClassVar[str] = "csv"
    patterns: ClassVar[tuple[str, ...]] = (
        "{split}.csv",
        "{split}.tsv",
        "{split}/_annotations.csv",
        "{split}/annotations.csv",
        "{split}/metadata.csv",
        "annotations/{split}.csv",
        "{split}_labels.csv",
    )

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        lines = utf8_lines(file.read_bytes(), file)
        header = lines[0] if lines else ""
        delimiter = max(_DELIMITERS, key=header.count)
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        if not any(names) or len(set(names)) < len(names):
            raise DataError(
                f"{file}:1: the first line must be a header of different columns, got {header!r}. "
                "Add it, e.g. image,prefix,suffix."
            )
        table = csv.DictReader(lines[1:], names, delimiter=delimiter)
        reader = RecordReader(self, file)
        if (columns := box_columns(names)) is not None:
            yield from _rows_of_boxes(reader, table, columns, file)
            return
        for number, line in enumerate(table, 2):
            record = {name: cell for name, cell in line.items() if name and cell}
            if "filename" in record and not {"image", "images", "file_name"} & record.keys():
                record["image"] = record.pop("filename")
            yield from reader.numbered_rows([record], number, f"{file}:{number}")


def box_columns(header: Iterable[str]) -> tuple[str, str, tuple[str, ...]] | None:
    """Return the columns of image, class and corners; None if a line is not a box."""
    names = list(header)
    image = next((name for name in _IMAGES if name in names), None)
    label = next((name for name in _LABELS if name in names), None)
    corners = next((c for c in _CORNERS if set(c) <= set(names)), None)
    return (image, label, corners) if image and label and corners else None


def _rows_of_boxes(
    reader: RecordReader,
    table: Iterable[dict[str, Any]],
    columns: tuple[str, str, tuple[str, ...]],
    file: Path,
) -> Iterator[Row | DataError]:
    """Yield a row for each image, with the boxes of all its lines."""
    image_column, label_column, corner_columns = columns
    by_image: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, line in enumerate(table, 2):
        by_image.setdefault(line.get(image_column) or "", []).append((number, line))
    for image, lines in by_image.items():
        location, objects, faults = f"{file}:{lines[0][0]}", [], Faults()
        for number, line in lines:
            if line.get(label_column) or any(line.get(name) for name in corner_columns):
                box = faults.catch(_corners, line, corner_columns, f"{file}:{number}")
                objects.append({"label": line.get(label_column) or "", "box": box})
        try:
            faults.raise_all()
        except DataError as error:
            yield error
            continue
        record = {"id": image, "image": image, "objects": objects}
        yield from reader.numbered_rows([record], lines[0][0], location)


def _corners(line: dict[str, Any], columns: tuple[str, ...], location: str) -> list[float]:
    try:
        return [float(line.get(name) or "") for name in columns]
    except ValueError:
        cells = [line.get(name) for name in columns]
        raise DataError(
            f"{location}: box must be four numbers, got {cells}. Boxes are {', '.join(columns)} in "
            "pixels."
        ) from None
