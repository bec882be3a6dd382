"""JSON Lines, or a JSON list of objects, with the columns of `columns.records`.

Conversations (`conversations` of LLaVA, `messages` of chat APIs) are a row per answer.
A complete `prefix` and `suffix` are used as they are, so that PaliGemma files exported by Roboflow
(`detect boat ; buoy` with `<loc>` tokens) work for detection.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from palitune.codec.parsing import parse_json
from palitune.data.sources.columns.conversations import split_conversation
from palitune.data.sources.columns.records import RecordReader, RecordSource
from palitune.data.sources.validation import read_json, short_repr
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
        for number, location, content in _numbered_records(file):
            try:
                record = _parse_line(content, location) if isinstance(content, bytes) else content
                records = split_conversation(_checked_record(record, location), location)
            except DataError as error:
                yield error
                continue
            yield from reader.numbered_rows(records, number, location)


def _numbered_records(file: Path) -> Iterator[tuple[int, str, Any]]:
    """Yield number (from 1), location and content of each line, or of each entry of a JSON list."""
    if file.suffix == ".json" and _is_list(file):
        entries = read_json(file, "Write one object per line, or a list of objects.")
        yield from ((n, f"{file}, record {n}", entry) for n, entry in enumerate(entries, 1))
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.isspace():
                yield number, f"{file}:{number}", line


def _is_list(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(64).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")


def _parse_line(line: bytes, location: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise _not_an_object(location, str(error)) from None


def _checked_record(record: Any, location: str) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise _not_an_object(location, f"got {short_repr(record)}")
    return record


def _not_an_object(location: str, reason: str) -> DataError:
    return DataError(
        f"{location}: line must be a JSON object ({reason}). Write one object per line, "
        'e.g. {"image": "a.png", "text": "..."}, in UTF-8.'
    )
