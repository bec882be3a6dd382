"""WebDataset: tar files in which the files of one sample are consecutive and share their name.

`0017.jpg` with `0017.json` and `0017.txt` is one row: the image, the columns of the JSON object
(those of `columns.records`), and a column for every other text file, named by its extension:
`data.columns={captions: txt}` reads captions. Images are written to the cache under the digest of
their bytes, so that names in an archive never become paths.
"""

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, Any, ClassVar

from palitune.codec.parsing import parse_json
from palitune.data.sources.columns.sharded import ArchiveReader, ShardedSource
from palitune.data.sources.folders import IMAGE_EXTENSIONS
from palitune.data.sources.validation import rows_or_errors, short_repr
from palitune.errors import DataError
from palitune.records import Row

MAX_MEMBER_BYTES = 1 << 28
"""Largest file in an archive; an image of Pillow's largest size has less."""
_TEXT_EXTENSIONS = ("txt", "text", "caption", "question", "answer", "prefix", "suffix", "cls", "id")


@dataclass(kw_only=True)
class WebDataset(ShardedSource):
    """Rows from tar files; a split may be several files."""

    name: ClassVar[str] = "webdataset"
    patterns: ClassVar[tuple[str, ...]] = (
        "{split}.tar",
        "{split}-*.tar",
        "{split}/*.tar",
        "{split}*.tar",
    )

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        for shard in self.files(split):
            yield from self._read_shard(shard)

    def _read_shard(self, shard: Path) -> Iterator[Row | DataError]:
        reader = ArchiveReader(self, shard)
        reader.allowed_folders = [shard.parent, self.resolved_path()]

        def make_row(sample: tuple[int, tuple[str, dict[str, bytes]]]) -> Row:
            number, (key, contents) = sample
            location = f"{shard}, {key}"
            return reader.row(_build_record(key, contents, location), number, location)

        samples = enumerate(_iterate_samples(shard), 1)
        return rows_or_errors(make_row, samples, reader.limits.left_out)


def _iterate_samples(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the key of each sample of a tar file and its contents by extension."""
    try:
        with tarfile.open(shard, "r|*") as archive:
            files = ((_split_filename(member.name, shard), _open_member(archive, member, shard))
                     for member in archive if member.isfile())  # fmt: skip
            for key, group in groupby(files, key=lambda file: file[0][0]):
                yield key, {name[1]: content.read() for name, content in group if content}
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, zlib.error,
            lzma.LZMAError) as error:  # fmt: skip
        if isinstance(error, DataError):
            raise
        raise DataError(f"{shard}: file must be a tar file ({error}). Write it again.") from error


def _open_member(
    archive: tarfile.TarFile, member: tarfile.TarInfo, shard: Path
) -> IO[bytes] | None:
    """Open a file of an archive. Raises DataError if it claims more bytes than a sample has.

    The size is checked before anything is read: a sparse or compressed file of a few bytes can
    stand for terabytes.
    """
    if member.sparse is not None or member.size > MAX_MEMBER_BYTES:
        kind = "sparse" if member.sparse is not None else f"of {member.size} bytes"
        raise DataError(
            f"{shard}: files must have at most {MAX_MEMBER_BYTES} bytes and not be sparse, got "
            f"{member.name!r}, which is {kind}. Write it again without."
        )
    return archive.extractfile(member)


def _split_filename(name: str, shard: Path) -> tuple[str, str]:
    """Split a name at the first dot of its last part. Raises DataError for a path outside."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"{shard}: file names must stay inside the archive, got {name!r}. Write it again "
            "without."
        )
    stem, _, extension = path.name.partition(".")
    return str(path.parent / stem), extension.lower()


def _build_record(key: str, contents: dict[str, bytes], location: str) -> dict[str, Any]:
    record: dict[str, Any] = {"id": key}
    try:
        for extension, content in contents.items():
            if extension == "json":
                columns = parse_json(content)
                if not isinstance(columns, dict):
                    raise ValueError(f"got {short_repr(columns)}")
                record |= columns
            elif f".{extension.rpartition('.')[2]}" in IMAGE_EXTENSIONS:
                record["image"] = content
            elif extension in _TEXT_EXTENSIONS:
                record[extension] = content.decode("utf-8").strip()
    except ValueError as error:
        expected = "a JSON object" if extension == "json" else "UTF-8 text"
        raise DataError(
            f"{location}: .{extension} must be {expected} ({error}). Write it again."
        ) from error
    return record
