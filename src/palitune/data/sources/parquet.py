"""Tables in Parquet or Arrow files, as data sets on the Hugging Face hub are stored.

Columns are those of `records`. An image is a path, or `{"bytes", "path"}` with the file in the
table itself: such files are written once to the cache folder. Numbered categories take the names
that the table's own description gives them.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.sources.sharded import ShardedSource, TableReader
from palitune.errors import DataError
from palitune.records import Row

_BATCH_ROWS = 64
"""Rows in memory at a time: images are among them."""


@dataclass(kw_only=True)
class Parquet(ShardedSource):
    """Rows out of Parquet or Arrow files; a split may be several files."""

    name: ClassVar[str] = "parquet"
    patterns: ClassVar[tuple[str, ...]] = (
        "{split}.parquet",
        "data/{split}-*.parquet",
        "{split}-*.parquet",
        "{split}/*.parquet",
        "{split}.arrow",
        "{split}/*.arrow",
    )

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        for shard in self.files(split):
            yield from _read_rows(self, shard)


def _read_rows(source: Parquet, file: Path) -> Iterator[Row | DataError]:
    import pyarrow as pa

    try:
        schema, batches = _open_table(file)
        reader = TableReader(source, file, class_names(schema))
        number = 0
        for batch in batches:
            for record in batch.to_pylist():
                number += 1
                place = f"{file}, row {number}"
                try:
                    yield reader.row(record, number, place)
                except DataError as mistake:
                    yield mistake
    except (pa.ArrowException, OSError) as mistake:
        raise DataError(
            f"{file}: not a table that can be read ({mistake}); write it anew"
        ) from mistake


def _open_table(file: Path) -> tuple[Any, Iterator[Any]]:
    """Return a table's schema and its rows by batches; an Arrow file may be a stream or a file."""
    import pyarrow as pa
    from pyarrow import parquet

    if file.suffix != ".arrow":
        table = parquet.ParquetFile(file)
        return table.schema_arrow, table.iter_batches(batch_size=_BATCH_ROWS)
    mapped = pa.memory_map(str(file))
    try:
        stream = pa.ipc.open_stream(mapped)
    except pa.ArrowInvalid:
        whole = pa.ipc.open_file(mapped)
        return whole.schema, _slice_batches(
            whole.get_batch(i) for i in range(whole.num_record_batches)
        )
    return stream.schema, _slice_batches(stream)


def _slice_batches(batches: Iterable[Any]) -> Iterator[Any]:
    for batch in batches:
        yield from (
            batch.slice(start, _BATCH_ROWS) for start in range(0, batch.num_rows, _BATCH_ROWS)
        )


def class_names(schema: Any) -> list[str]:
    """Return the names of the categories of `objects` that `datasets` has written into a table."""
    try:
        described = json.loads((schema.metadata or {})[b"huggingface"])
        features = described["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return []
    return next(_class_labels(features.get("objects") or features.get("instances")), [])


def _class_labels(feature: Any) -> Iterator[list[str]]:
    """Yield the names of every class label inside a feature."""
    if isinstance(feature, dict):
        if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
            yield [str(name) for name in feature["names"]]
        for inner in feature.values():
            yield from _class_labels(inner)
    elif isinstance(feature, list):
        for inner in feature:
            yield from _class_labels(inner)
