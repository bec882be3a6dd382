"""JSON Lines: one object per line, one row each; see `records` for its columns.

A ready-made `prefix` and `suffix` are taken as they are, so that files for PaliGemma as Roboflow
exports them (`detect boat ; buoy` with `<loc>` tokens) suit detection, too.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.sources.records import RecordReader, RecordSource
from palitune.data.sources.validation import short_repr
from palitune.errors import DataError
from palitune.records import Row


@dataclass(kw_only=True)
class Jsonl(RecordSource):
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

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        reader = RecordReader(self, file)
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.isspace():
                    continue
                place = f"{file}:{number}"
                try:
                    yield reader.row(_parse_line(line, place), number, place)
                except DataError as mistake:
                    yield mistake


def _parse_line(line: bytes, location: str) -> dict[str, Any]:
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
        why = f"found {short_repr(record)}"
    raise DataError(
        f"{location}: not an object in JSON ({why}); write one object per line, "
        'e.g. {"image": "a.png", "text": "..."}, in UTF-8'
    )
