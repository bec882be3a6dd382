"""WebDataset: tar files in which the files of one sample follow each other and share their name.

`0017.jpg` with `0017.json` and `0017.txt` is one row: its image, the columns of the JSON object
(those of `records`), and every other text file as a column called by its ending, so that
`data.columns={captions: txt}` reads captions. Nothing is unpacked by the names in an archive:
images go to the cache under the digest of their bytes.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from palitune.data.sources.checks import shown
from palitune.data.sources.folders import IMAGE_ENDINGS
from palitune.data.sources.shards import EnclosedReader, ShardedSource
from palitune.examples import DataError, Row

_TEXTS = ("txt", "text", "caption", "question", "answer", "prefix", "suffix", "cls", "id")


@dataclass(kw_only=True)
class WebDataset(ShardedSource):
    """Rows out of tar files; a split may be several of them."""

    name: ClassVar[str] = "webdataset"
    patterns: ClassVar[tuple[str, ...]] = (
        "{split}.tar",
        "{split}-*.tar",
        "{split}/*.tar",
        "{split}*.tar",
    )

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        for shard in self.files(split):
            reader, numbers = EnclosedReader(self, shard), count(1)
            reader.enclosures = [shard.parent, self.location()]
            for key, contents in _samples(shard):
                place = f"{shard}, {key}"
                try:
                    record = _record(key, contents, place)
                    yield reader.row(record, next(numbers), place)
                except DataError as mistake:
                    yield mistake


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the samples of a tar file: their key, and their contents by ending."""
    try:
        with tarfile.open(shard, "r|*") as archive:
            files = ((_split_name(member.name, shard), archive.extractfile(member))
                     for member in archive if member.isfile())  # fmt: skip
            for key, group in groupby(files, key=lambda file: file[0][0]):
                yield key, {name[1]: content.read() for name, content in group if content}
    except (tarfile.TarError, OSError, EOFError) as mistake:
        raise DataError(
            f"{shard}: not a tar file that can be read ({mistake}); write it anew"
        ) from mistake


def _split_name(name: str, shard: Path) -> tuple[str, str]:
    """Cut a name at the first dot of its last part. Raises DataError for one that leads outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{shard}: file {name!r} leads out of the archive; do not trust it")
    stem, _, ending = path.name.partition(".")
    return str(path.parent / stem), ending.lower()


def _record(key: str, contents: dict[str, bytes], place: str) -> dict[str, Any]:
    record: dict[str, Any] = {"id": key}
    try:
        for ending, content in contents.items():
            if ending == "json":
                written = json.loads(content)
                if not isinstance(written, dict):
                    raise ValueError(f"found {shown(written)}, not an object")
                record |= written
            elif f".{ending.rpartition('.')[2]}" in IMAGE_ENDINGS:
                record["image"] = content
            elif ending in _TEXTS:
                record[ending] = content.decode("utf-8").strip()
    except (ValueError, RecursionError) as mistake:
        raise DataError(
            f"{place}: .{ending} cannot be read ({mistake}); write it anew"
        ) from mistake
    return record
