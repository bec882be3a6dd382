"""Data sets of the Hugging Face hub, read with `datasets`, with the columns of `columns.records`.

`data.path` is a repository (`HuggingFaceM4/DocumentVQA`), or the folder of a downloaded one, which
needs no network. Splits have the names of the repository.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from palitune.data.sources.columns.records import RecordSource
from palitune.data.sources.columns.sharded import ArchiveReader
from palitune.data.sources.folders import walk_files
from palitune.data.sources.parquet import class_names
from palitune.data.sources.split_files import canonical_split, split_aliases
from palitune.errors import DataError
from palitune.paths import cache_root
from palitune.records import Row


@dataclass(kw_only=True)
class Hub(RecordSource):
    """Rows from a data set of the hub, or from a folder with its files."""

    name: ClassVar[str] = "hub"
    patterns: ClassVar[tuple[str, ...]] = ()

    path: str
    """Repository on the hub, e.g. HuggingFaceM4/DocumentVQA, or a folder with its files."""
    splits: dict[str, str] = field(default_factory=dict)
    """Mapping from split names here to split names in the repository, e.g. {test: testdev}."""
    config_name: str | None = None
    """Configuration (subset) of the data set (null: the only one)."""
    revision: str | None = None
    """Branch, tag or commit of the repository. Examples are cached: later changes of a branch have
    no effect."""
    streaming: bool = False
    """Read the repository row by row, up to data.max_samples, instead of downloading all of it
    first."""

    def annotation_file(self, split: str) -> Path:
        """Return the folder, or a file in the cache that describes the repository."""
        if self.resolved_path().is_dir():
            return self.resolved_path()
        description = json.dumps([self.path, self.config_name, self.revision, self.splits])
        digest = sha256(description.encode()).hexdigest()[:32]
        file = cache_root() / "hub" / f"{digest}.json"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(description, encoding="utf-8")
        return file

    def files(self, split: str) -> Iterable[Path]:
        file = self.annotation_file(split)
        return walk_files(file) if file.is_dir() else [file]

    def available_splits(self) -> list[str]:
        renamed = {theirs: canonical_split(ours) for ours, theirs in self.splits.items()}
        return [renamed.get(name, canonical_split(name)) for name in self._split_names()]

    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        dataset = self._load_dataset(self._repository_split(split))
        classes = class_names(dataset.features.arrow_schema) if dataset.features else []
        reader = ArchiveReader(self, Path(self.path) / split, classes)
        reader.allowed_folders = self._allowed_folders()
        yield from reader.rows(self._records(dataset), f"{self.path}, {split}, row ")

    def _records(self, dataset: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        try:
            yield from dataset
        except Exception as error:  # of the network, or of a file in one of many formats
            raise DataError(self._load_error_message(error)) from error

    def _allowed_folders(self) -> list[Path]:
        """Return the folder of the data, or the download folders of `datasets` and the hub."""
        if self.resolved_path().is_dir():
            return [self.resolved_path()]
        import datasets
        from huggingface_hub.constants import HF_HUB_CACHE

        return [Path(datasets.config.HF_DATASETS_CACHE), Path(HF_HUB_CACHE)]

    def _repository_split(self, split: str) -> str:
        """Return the name of a split in the repository."""
        for ours, theirs in self.splits.items():
            if canonical_split(ours) == split:
                return theirs
        names = self._split_names()
        for name in split_aliases(split):
            if name in names:
                return name
        raise DataError(
            f"{self.path}: split must be one of {', '.join(names)}, got {split!r}. Set "
            f"data.splits.{split}=NAME."
        )

    def _split_names(self) -> list[str]:
        import datasets

        try:
            names: list[str] = datasets.get_dataset_split_names(
                self._dataset_path(), self.config_name, revision=self.revision
            )
        except Exception as error:  # each layer down to the network has its own
            raise DataError(self._load_error_message(error)) from error
        return names

    def _load_dataset(self, split: str) -> Any:
        """Open a split with images as encoded files; a folder is read in place."""
        import datasets

        try:
            dataset = datasets.load_dataset(
                self._dataset_path(),
                self.config_name,
                split=split,
                revision=self.revision,
                streaming=self.streaming or self.resolved_path().is_dir(),
            )
        except Exception as error:  # each layer down to the network has its own
            raise DataError(self._load_error_message(error)) from error
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
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if self.resolved_path().is_dir():
            return f"{self.path}: folder must be a data set that `datasets` can read ({reason})."
        return (
            f"{self.path}: cannot be downloaded from the Hugging Face hub ({reason}). Without "
            f"network, download it on another machine (hf download {self.path} --repo-type dataset "
            "--local-dir FOLDER) and set data.path=FOLDER."
        )
