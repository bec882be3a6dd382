"""Splits of several files, each of which is a part of it."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from palitune.data.places import cache_root
from palitune.data.sources import lookup
from palitune.data.sources.kept import keep
from palitune.data.sources.records import RecordReader, RecordSource
from palitune.examples import DataError


@dataclass(kw_only=True)
class ShardedSource(RecordSource):
    """A source whose split may be several files."""

    def found(self, split: str) -> list[Path]:
        """Return the first file of a split; `files` lists all of them."""
        return super().found(split)[:1]

    def files(self, split: str) -> Iterable[Path]:
        first = self.annotation_file(split)
        shards = super().found("train" if self._is_divided(split) else lookup.canonical(split))
        return shards if first in shards else [first]


class TableReader(RecordReader):
    """Reads records whose images may be there themselves: as bytes, or `{"bytes", "path"}`."""

    def image(self, cell: object, place: str) -> str | None:
        if isinstance(cell, dict):
            content = cell.get("bytes")
            return super().image(cell.get("path"), place) if content is None else keep(content)
        return keep(cell) if isinstance(cell, bytes) else super().image(cell, place)


class EnclosedReader(TableReader):
    """Reads records that others wrote: a path in them must not lead out of the data's folders.

    Else an archive could have any picture of this machine read, and shown in a report.
    """

    enclosures: Sequence[Path] = ()
    """The folders, besides that of images kept in the cache."""

    def image(self, cell: object, place: str) -> str | None:
        path = super().image(cell, place)
        folders = [os.path.abspath(folder) for folder in (*self.enclosures, cache_root())]
        if path is not None and not any(
            os.path.commonpath([folder, os.path.abspath(path)]) == folder for folder in folders
        ):
            raise DataError(f"{place}: image {cell!r} leads out of the data; do not trust it")
        return path
