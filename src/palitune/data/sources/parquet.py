"""Tables in Parquet or Arrow files, the format of data sets on the Hugging Face hub.

The columns are those of `columns.records`. An image is a path, or `{"bytes", "path"}` with the
content of the file, which is written once to the cache folder. Numeric categories get their names
from the metadata of the table.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from palitune.codec.parsing import parse_json
from palitune.data.sources.columns.sharded import ShardedSource, TableReader
from palitune.errors import DataError
from palitune.records import Row

_BATCH_ROWS = 64
"""Rows in memory at a time, with their images."""


@dataclass(kw_only=True)
class Parquet(ShardedSource):
    """Rows from Parquet or Arrow files; a split may be several files."""

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
        records = (record for batch in batches for record in checked_records(batch))
        yield from reader.rows(records, f"{file}, row ")
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{file}: file must be a Parquet or Arrow table ({error}). Write it again."
        ) from error


def _open_table(file: Path) -> tuple[Any, Iterator[Any]]:
    """Return the schema of a table and its batches; Arrow has a stream and a file format."""
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


def checked_records(batch: Any) -> list[dict[str, Any]]:
    """Return the rows of a record batch as Python values.

    Offsets of a damaged file would be followed out of the buffer, so all of them are checked first.
    Raises ArrowInvalid for a damaged batch.
    """
    batch.validate(full=True)
    records: list[dict[str, Any]] = batch.to_pylist()
    return records


def class_names(schema: Any) -> list[str]:
    """Return the category names of `objects` in the metadata that `datasets` writes."""
    try:
        metadata = parse_json((schema.metadata or {})[b"huggingface"])
        features = metadata["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return []
    return next(_class_labels(features.get("objects") or features.get("instances")), [])


def _class_labels(feature: Any) -> Iterator[list[str]]:
    """Yield the names of every ClassLabel inside a feature."""
    if isinstance(feature, dict):
        if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
            yield [str(name) for name in feature["names"]]
        for inner in feature.values():
            yield from _class_labels(inner)
    elif isinstance(feature, list):
        for inner in feature:
            yield from _class_labels(inner)
