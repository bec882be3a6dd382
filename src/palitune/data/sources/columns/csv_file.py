"""CSV with a header: one record per line, or one box per line.

The columns are those of `columns.records`. With columns for a class and the corners of a box
(`xmin`, `ymin`, `xmax`, `ymax`, in pixels), every line is a box and an image has all its lines; a
line without a class and box is an image without objects.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from palitune.data.sources.columns.records import RecordReader, RecordSource
from palitune.data.sources.validation import Faults, short_repr, utf8_text
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
        text = utf8_text(file.read_bytes(), file)
        names, delimiter = parse_header(text)
        if not any(names) or len(set(names)) < len(names):
            raise DataError(
                f"{file}:1: the first line must be a header of different columns, got "
                f"{short_repr(text.partition(chr(10))[0])}. Add it, e.g. image,prefix,suffix."
            )
        reader, lines = RecordReader(self, file), _numbered_lines(text, names, delimiter, file)
        if (columns := box_columns(names)) is not None:
            yield from _rows_of_boxes(reader, lines, columns, file)
            return
        for number, line in lines:
            if isinstance(line, DataError):
                yield line
                continue
            record = {name: cell for name, cell in line.items() if cell}
            if "filename" in record and not {"image", "images", "file_name"} & record.keys():
                record["image"] = record.pop("filename")
            yield from reader.numbered_rows([record], number, f"{file}:{number}")


def parse_header(text: str) -> tuple[list[str], str]:
    """Return the column names in the first line of a CSV file, and its delimiter."""
    header = text.partition("\n")[0].rstrip("\r")
    delimiter = max(_DELIMITERS, key=header.count)
    try:
        names = next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error:
        names = []
    return [name.strip() for name in names], delimiter


def _numbered_lines(
    text: str, names: Sequence[str], delimiter: str, file: Path
) -> Iterator[tuple[int, dict[str, str] | DataError]]:
    """Yield the cells of each record with its first line; quoted cells may hold line breaks."""
    # The length of a cell is bounded by the file.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    number = 0
    try:
        for cells in table:
            first, number = number + 1, table.line_num
            if first == 1 or not cells:
                continue
            if len(cells) > len(names) and any(cells[len(names) :]):
                yield (
                    first,
                    DataError(
                        f"{file}:{first}: line must have at most {len(names)} cells, as the header "
                        f"has, got {len(cells)}. Put cells with {delimiter!r} into double quotes."
                    ),
                )
            else:
                yield first, dict(zip(names, cells, strict=False))
    except csv.Error as error:
        yield (
            number + 1,
            DataError(f"{file}:{number + 1}: line must be CSV ({error}). Correct it."),
        )


def box_columns(header: Iterable[str]) -> tuple[str, str, tuple[str, ...]] | None:
    """Return the columns of image, class and corners; None if a line is not a box."""
    names = list(header)
    image = next((name for name in _IMAGES if name in names), None)
    label = next((name for name in _LABELS if name in names), None)
    corners = next((c for c in _CORNERS if set(c) <= set(names)), None)
    return (image, label, corners) if image and label and corners else None


def _rows_of_boxes(
    reader: RecordReader,
    lines: Iterable[tuple[int, dict[str, str] | DataError]],
    columns: tuple[str, str, tuple[str, ...]],
    file: Path,
) -> Iterator[Row | DataError]:
    """Yield a row for each image, with the boxes of all its lines."""
    image_column, label_column, corner_columns = columns
    by_image: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for number, line in lines:
        if isinstance(line, DataError):
            yield line
        else:
            by_image.setdefault(line.get(image_column) or "", []).append((number, line))
    for image, of_image in by_image.items():
        location, objects, faults = f"{file}:{of_image[0][0]}", [], Faults()
        for number, line in of_image:
            if line.get(label_column) or any(line.get(name) for name in corner_columns):
                box = faults.catch(_corners, line, corner_columns, f"{file}:{number}")
                objects.append({"label": line.get(label_column) or "", "box": box})
        try:
            faults.raise_all()
        except DataError as error:
            yield error
            continue
        record = {"id": image, "image": image, "objects": objects}
        yield from reader.numbered_rows([record], of_image[0][0], location)


def _corners(line: dict[str, str], columns: tuple[str, ...], location: str) -> list[float]:
    try:
        return [float(line.get(name) or "") for name in columns]
    except ValueError:
        cells = [line.get(name) for name in columns]
        raise DataError(
            f"{location}: box must be four numbers, got {cells}. Boxes are {', '.join(columns)} in "
            "pixels."
        ) from None
