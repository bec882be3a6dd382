"""Tasks that the columns of a record fit."""

import json
import re
from collections.abc import Collection
from typing import Any

from palitune.data.sources.columns.conversations import CONVERSATION_COLUMNS
from palitune.data.sources.columns.csv_file import box_columns
from palitune.data.sources.columns.records import COLUMN_ALIASES

_TASK_COLUMNS = {
    "vqa": ("answers",),
    "caption": ("captions",),
    "ocr": ("text",),
    "json": ("json",),
    "referring_detection": ("expression",),
    "detection": ("instances",),
}


def tasks_of_columns(columns: Collection[str], suffix: str = "") -> tuple[str, ...]:
    """Return the tasks whose columns are present; empty if none is.

    Args:
        columns: Names of the columns.
        suffix: Suffix of the first record, whose tokens tell boxes from text.
    """
    if set(CONVERSATION_COLUMNS) & set(columns):
        return ("text",)
    if "suffix" in columns:
        has_masks, has_boxes = "<seg" in suffix, "<loc" in suffix
        return ("segmentation",) if has_masks else ("detection",) if has_boxes else ("text",)
    tasks = [
        task
        for task, ours in _TASK_COLUMNS.items()
        if any(name in columns for column in ours for name in COLUMN_ALIASES[column])
    ]
    if "referring_detection" in tasks:
        tasks = [task for task in tasks if task != "detection"]
    return tuple(tasks)


def has_image(columns: Collection[str]) -> bool:
    """Return whether a record names its image, or holds a conversation about one."""
    names = {*COLUMN_ALIASES["images"], *COLUMN_ALIASES["video"], *CONVERSATION_COLUMNS}
    return bool(names & set(columns))


def first_record(text: str) -> dict[str, Any]:
    """Return the first object of JSON lines or of a JSON list; empty if there is none."""
    start = re.match(r"\s*\[?\s*", text)
    assert start is not None
    try:
        record, _ = json.JSONDecoder().raw_decode(text, start.end())
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def csv_tasks(columns: list[str]) -> tuple[str, ...]:
    """Return the tasks that the columns of a CSV file fit."""
    return ("detection",) if box_columns(columns) else tasks_of_columns(columns)


def parquet_columns(content: bytes) -> list[str]:
    """Return the column names of a Parquet file from its start and end; empty if unreadable."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return list(parquet.read_schema(pa.BufferReader(content)).names)
    except (pa.ArrowException, OSError, ValueError):
        return []
