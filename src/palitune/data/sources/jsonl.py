"""JSON Lines: one object per line, with the columns of `columns.records`.

A complete `prefix` and `suffix` are used as they are, so that PaliGemma files exported by Roboflow
(`detect boat ; buoy` with `<loc>` tokens) work for detection.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from palitune.codec.parsing import parse_json
from palitune.data.sources.columns.records import RecordReader, RecordSource
from palitune.data.sources.validation import rows_or_errors, short_repr
from palitune.errors import DataError
from palitune.records import Row


@dataclass(kw_only=True)
class Jsonl(RecordSource):
    """Rows from JSON Lines files."""

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

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        reader = RecordReader(self, file)

        def make_row(numbered: tuple[int, bytes]) -> Row:
            number, line = numbered
            location = f"{file}:{number}"
            return reader.row(_parse_line(line, location), number, location)

        with file.open("rb") as lines:
            numbered_lines = ((n, line) for n, line in enumerate(lines, 1) if not line.isspace())
            yield from rows_or_errors(make_row, numbered_lines)


def _parse_line(line: bytes, location: str) -> dict[str, Any]:
    try:
        record = parse_json(line)
    except ValueError as error:
        reason = str(error)
    else:
        if isinstance(record, dict):
            return record
        reason = f"got {short_repr(record)}"
    raise DataError(
        f"{location}: line must be a JSON object ({reason}). Write one object per line, "
        'e.g. {"image": "a.png", "text": "..."}, in UTF-8.'
    )
