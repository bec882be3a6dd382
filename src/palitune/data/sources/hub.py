"""Data sets of the Hugging Face hub, read with `datasets`: their columns are those of `records`.

`data.path` is a repository (`HuggingFaceM4/DocumentVQA`) or a folder that one was downloaded to,
which needs no network. Splits have the names that the repository gives them.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.sources import split_files
from palitune.data.sources.folders import walk_files
from palitune.data.sources.parquet import class_names
from palitune.data.sources.records import RecordSource
from palitune.data.sources.sharded import ArchiveReader
from palitune.errors import DataError
from palitune.paths import cache_root
from palitune.records import Row


@dataclass(kw_only=True)
class Hub(RecordSource):
    """Rows out of a data set of the hub, or of a folder with its files."""

    name: ClassVar[str] = "hub"
    patterns: ClassVar[tuple[str, ...]] = ()

    path: str
    """Repository on the hub, e.g. HuggingFaceM4/DocumentVQA, or a folder with its files."""
    splits: dict[str, str] = field(default_factory=dict)
    """Name of a split in the repository by the split's name here, e.g. {test: testdev}."""
    config_name: str | None = None
    """Configuration (subset) of the data set; null: its only one."""
    revision: str | None = None
    """Branch, tag or commit of the repository. Examples are read once: a branch that has moved
    since is not noticed."""
    streaming: bool = False
    """Read the repository row by row, with data.max_samples not more than these, instead of downloading
    all of it first."""

    def annotation_file(self, split: str) -> Path:
        """Return the folder, or a note in the cache of what is read from the hub."""
        if self.resolved_path().is_dir():
            return self.resolved_path()
        described = json.dumps([self.path, self.config_name, self.revision, self.splits])
        digest = sha256(described.encode()).hexdigest()[:32]
        note = cache_root() / "hub" / f"{digest}.json"
        if not note.exists():
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(described, encoding="utf-8")
        return note

    def files(self, split: str) -> Iterable[Path]:
        file = self.annotation_file(split)
        return walk_files(file) if file.is_dir() else [file]

    def available_splits(self) -> list[str]:
        named = {theirs: split_files.canonical_split(ours) for ours, theirs in self.splits.items()}
        return [named.get(name, split_files.canonical_split(name)) for name in self._split_names()]

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        dataset = self._load_dataset(self._repository_split(split))
        classes = class_names(dataset.features.arrow_schema) if dataset.features else []
        reader = ArchiveReader(self, Path(self.path) / split, classes)
        reader.allowed_folders = self._allowed_folders()
        records, numbers = iter(dataset), count(1)
        while True:
            try:
                record = next(records, None)
            except Exception as mistake:  # of the network, or of a file in any of many formats
                raise DataError(self._load_error_message(mistake)) from mistake
            if record is None:
                return
            number = next(numbers)
            place = f"{self.path}, {split}, row {number}"
            try:
                yield reader.row(record, number, place)
            except DataError as mistake:
                yield mistake

    def _allowed_folders(self) -> list[Path]:
        """Return the folder, or where `datasets` and the hub keep what they have downloaded."""
        if self.resolved_path().is_dir():
            return [self.resolved_path()]
        import datasets
        from huggingface_hub.constants import HF_HUB_CACHE

        return [Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]

    def _repository_split(self, split: str) -> str:
        """Return the name that the repository has for a split."""
        for ours, theirs in self.splits.items():
            if split_files.canonical_split(ours) == split:
                return theirs
        there = self._split_names()
        for name in split_files.split_aliases(split):
            if name in there:
                return name
        raise DataError(
            f"{self.path}: no split {split!r}; it has {', '.join(there)}; name one with "
            f"data.splits.{split}=NAME"
        )

    def _split_names(self) -> list[str]:
        import datasets

        try:
            names: list[str] = datasets.get_dataset_split_names(
                self._dataset_path(), self.config_name, revision=self.revision
            )
        except Exception as mistake:  # each layer down to the network has its own
            raise DataError(self._load_error_message(mistake)) from mistake
        return names

    def _load_dataset(self, split: str) -> Any:
        """Open a split, with its images as files and not as pixels; a folder is read in place."""
        import datasets

        try:
            dataset = datasets.load_dataset(
                self._dataset_path(),
                self.config_name,
                split=split,
                revision=self.revision,
                streaming=self.streaming or self.resolved_path().is_dir(),
            )
        except Exception as mistake:  # each layer down to the network has its own
            raise DataError(self._load_error_message(mistake)) from mistake
        encoded = datasets.Image(decode=False)
        for column, feature in (dataset.features or {}).items():
            if isinstance(feature, datasets.Image):
                dataset = dataset.cast_column(column, encoded)
            elif isinstance(getattr(feature, "feature", None), datasets.Image):
                dataset = dataset.cast_column(column, type(feature)(encoded))
        return dataset

    def _dataset_path(self) -> str:
        return str(self.resolved_path()) if self.resolved_path().is_dir() else self.path

    def _load_error_message(self, error: Exception) -> str:
        why = " ".join(str(error).split())[:300] or type(error).__name__
        if self.resolved_path().is_dir():
            return f"{self.path}: not a data set that can be read ({why})"
        return (
            f"{self.path}: not to be had from the Hugging Face hub ({why}); without network, "
            f"download it elsewhere (hf download {self.path} --repo-type dataset --local-dir "
            "FOLDER) and set data.path=FOLDER"
        )
