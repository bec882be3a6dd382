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

from palitune.data.sources.folders import IMAGE_EXTENSIONS
from palitune.data.sources.sharded import ArchiveReader, ShardedSource
from palitune.data.sources.validation import short_repr
from palitune.errors import DataError
from palitune.records import Row

_TEXT_EXTENSIONS = ("txt", "text", "caption", "question", "answer", "prefix", "suffix", "cls", "id")


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
            reader, numbers = ArchiveReader(self, shard), count(1)
            reader.allowed_folders = [shard.parent, self.resolved_path()]
            for key, contents in _iterate_samples(shard):
                place = f"{shard}, {key}"
                try:
                    record = _build_record(key, contents, place)
                    yield reader.row(record, next(numbers), place)
                except DataError as mistake:
                    yield mistake


def _iterate_samples(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the samples of a tar file: their key, and their contents by ending."""
    try:
        with tarfile.open(shard, "r|*") as archive:
            files = ((_split_filename(member.name, shard), archive.extractfile(member))
                     for member in archive if member.isfile())  # fmt: skip
            for key, group in groupby(files, key=lambda file: file[0][0]):
                yield key, {name[1]: content.read() for name, content in group if content}
    except (tarfile.TarError, OSError, EOFError) as mistake:
        raise DataError(
            f"{shard}: not a tar file that can be read ({mistake}); write it anew"
        ) from mistake


def _split_filename(name: str, shard: Path) -> tuple[str, str]:
    """Cut a name at the first dot of its last part. Raises DataError for one that leads outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{shard}: file {name!r} leads out of the archive; do not trust it")
    stem, _, ending = path.name.partition(".")
    return str(path.parent / stem), ending.lower()


def _build_record(key: str, contents: dict[str, bytes], location: str) -> dict[str, Any]:
    record: dict[str, Any] = {"id": key}
    try:
        for ending, content in contents.items():
            if ending == "json":
                written = json.loads(content)
                if not isinstance(written, dict):
                    raise ValueError(f"found {short_repr(written)}, not an object")
                record |= written
            elif f".{ending.rpartition('.')[2]}" in IMAGE_EXTENSIONS:
                record["image"] = content
            elif ending in _TEXT_EXTENSIONS:
                record[ending] = content.decode("utf-8").strip()
    except (ValueError, RecursionError) as mistake:
        raise DataError(
            f"{location}: .{ending} cannot be read ({mistake}); write it anew"
        ) from mistake
    return record
