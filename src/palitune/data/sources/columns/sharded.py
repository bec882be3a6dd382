"""Splits of several files, and records with image files in them."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from palitune.data.images.extracted import extract_to_cache
from palitune.data.sources.columns.records import RecordReader, RecordSource
from palitune.data.sources.split_files import canonical_split
from palitune.errors import DataError
from palitune.paths import cache_root


@dataclass(kw_only=True)
class ShardedSource(RecordSource):
    """A source whose splits may be several files each."""

    def candidates(self, split: str) -> list[Path]:
        """Return the first file of a split; `files` returns all of them."""
        return super().candidates(split)[:1]

    def files(self, split: str) -> Iterable[Path]:
        first = self.annotation_file(split)
        shards = super().candidates(
            "train" if self._uses_validation_fraction(split) else canonical_split(split)
        )
        return shards if first in shards else [first]


class TableReader(RecordReader):
    """Build rows from records that hold image files as bytes or `{"bytes", "path"}`, or paths."""

    def resolve_image(self, cell: object, location: str) -> str | None:
        if isinstance(cell, dict):
            content = cell.get("bytes")
            cell = cell.get("path") if content is None else content
        if isinstance(cell, bytes):
            return extract_to_cache(cell)
        return super().resolve_image(cell, location)


class ArchiveReader(TableReader):
    """Build rows from untrusted records, whose image paths must stay inside the data's folders.

    Without this check an archive could have any image of this machine read and shown in a report.
    """

    allowed_folders: Sequence[Path] = ()
    """Folders of the data; the image cache is allowed too."""

    def resolve_image(self, cell: object, location: str) -> str | None:
        path = super().resolve_image(cell, location)
        folders = [os.path.abspath(folder) for folder in (*self.allowed_folders, cache_root())]
        if path is not None and not any(
            os.path.commonpath([folder, os.path.abspath(path)]) == folder for folder in folders
        ):
            raise DataError(
                f"{location}: image must be inside the data folder, got {cell!r}. Copy the image "
                "into it."
            )
        return path
