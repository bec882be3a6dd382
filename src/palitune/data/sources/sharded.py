"""Splits of several files, each of which is a part of it."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from palitune.data.images.extracted import extract_to_cache
from palitune.data.sources import split_files
from palitune.data.sources.records import RecordReader, RecordSource
from palitune.errors import DataError
from palitune.paths import cache_root


@dataclass(kw_only=True)
class ShardedSource(RecordSource):
    """A source whose split may be several files."""

    def candidates(self, split: str) -> list[Path]:
        """Return the first file of a split; `files` lists all of them."""
        return super().candidates(split)[:1]

    def files(self, split: str) -> Iterable[Path]:
        first = self.annotation_file(split)
        shards = super().candidates(
            "train" if self._uses_validation_fraction(split) else split_files.canonical_split(split)
        )
        return shards if first in shards else [first]


class TableReader(RecordReader):
    """Reads records whose images may be there themselves: as bytes, or `{"bytes", "path"}`."""

    def resolve_image(self, cell: object, location: str) -> str | None:
        if isinstance(cell, dict):
            content = cell.get("bytes")
            return (
                super().resolve_image(cell.get("path"), location)
                if content is None
                else extract_to_cache(content)
            )
        return (
            extract_to_cache(cell)
            if isinstance(cell, bytes)
            else super().resolve_image(cell, location)
        )


class ArchiveReader(TableReader):
    """Reads records that others wrote: a path in them must not lead out of the data's folders.

    Else an archive could have any picture of this machine read, and shown in a report.
    """

    allowed_folders: Sequence[Path] = ()
    """The folders, besides that of images kept in the cache."""

    def resolve_image(self, cell: object, location: str) -> str | None:
        path = super().resolve_image(cell, location)
        folders = [os.path.abspath(folder) for folder in (*self.allowed_folders, cache_root())]
        if path is not None and not any(
            os.path.commonpath([folder, os.path.abspath(path)]) == folder for folder in folders
        ):
            raise DataError(f"{location}: image {cell!r} leads out of the data; do not trust it")
        return path
