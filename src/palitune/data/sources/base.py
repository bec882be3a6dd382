"""What every data source is: annotation files of splits in, rows out; it knows nothing of tasks."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar

from palitune.data.sources import split_files
from palitune.errors import DataError
from palitune.records import Row
from palitune.tasks import TASKS, Task


@dataclass(kw_only=True)
class Data(ABC):
    """What a run learns from or is judged on: one source, or a mixture of several."""

    name: ClassVar[str]

    @abstractmethod
    def dataset_specs(self, task: Task | None) -> list["DatasetSpec"]:
        """Pair every source with the task that reads it; `task` is the one the run names.

        Raises ValueError where no task, or one too many, is given.
        """


@dataclass(kw_only=True)
class Source(Data):
    """One data set in one format.

    Where `splits` does not name the file of a split, it is looked for under `path` by the
    patterns of the format (`patterns`), in their order; the split `validation` is looked for as
    `validation`, `val` and `valid`. Where `path` is itself a file, it is the split `train`.
    """

    patterns: ClassVar[tuple[str, ...]]
    """Where the annotation file of `{split}` may lie, relative to `path`; wildcards allowed."""
    accepts_folders: ClassVar[bool] = False
    """What holds a split may be a folder."""

    path: str
    """Folder of the data, or the annotation file of the split `train`."""
    splits: dict[str, str] = field(default_factory=dict)
    """Annotation file of a split by the split's name, relative to `path` or absolute."""
    max_samples: int | None = None
    """Take only so many examples of every split, the first ones."""
    validation_fraction: float = 0.0
    """Share of `train`, in [0, 1), that becomes `validation`; all rows of an image go together."""
    max_bad_rows: int = 0
    """Bad rows of a split that are skipped and listed; one more is an error."""

    def __post_init__(self) -> None:
        if self.max_samples is not None and self.max_samples < 1:
            raise ValueError(f"data.max_samples must be at least 1, not {self.max_samples}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(
                f"data.validation_fraction must be in [0, 1), not {self.validation_fraction}"
            )
        if self.max_bad_rows < 0:
            raise ValueError(f"data.max_bad_rows must be at least 0, not {self.max_bad_rows}")

    @abstractmethod
    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        """Yield the rows of an annotation file, in some formats of a folder.

        A bad row is yielded as the error it makes. Raises DataError where the file as a whole
        cannot be read.
        """

    def dataset_specs(self, task: Task | None) -> list["DatasetSpec"]:
        if task is None:
            raise ValueError(f"task is missing: choose one of {', '.join(TASKS)} with task=NAME")
        return [DatasetSpec(task.name, task, self)]

    def rows(self, split: str) -> Iterator[Row | DataError]:
        """Yield the rows of a split; a bad row is yielded as the error it makes.

        Raises DataError where there is no such split or its file cannot be read.
        """
        split = split_files.canonical_split(split)
        file = self.annotation_file(split)
        if not self._uses_validation_fraction(split):
            yield from self.read(file, split)
            return
        root = os.path.abspath(file.parent)
        for row in self.read(file, "train"):
            if isinstance(row, DataError):
                yield row
            elif len(row.images) > 1:
                yield DataError(
                    f"{row.location}: data.validation_fraction cannot divide rows of several images; "
                    "put the validation rows into a file of their own"
                )
            elif self._is_held_out(row.images[0], root) == (split == "validation"):
                yield row

    def files(self, split: str) -> Iterable[Path]:
        """List every file that the rows of a split follow from, apart from the images."""
        return [self.annotation_file(split)]

    def class_ids(self, split: str) -> dict[str, int | str]:
        """Return the number that the data gives each class; empty where it gives none."""
        return {}

    def search_patterns(self) -> list[str]:
        """List where annotation files are looked for, in order."""
        return list(self.patterns)

    def resolved_path(self) -> Path:
        """Return the folder or file that `path` means."""
        return Path(self.path).expanduser()

    def folder(self) -> Path:
        """Return the folder that relative settings refer to."""
        location = self.resolved_path()
        return location.parent if location.is_file() else location

    def available_splits(self) -> list[str]:
        """Return the names of the splits that exist."""
        named = [split_files.canonical_split(split) for split in self.splits]
        usual = [split for split in split_files.SPLITS if self.candidates(split)]
        divided = ["validation"] if self.validation_fraction and "train" in usual + named else []
        return list(dict.fromkeys(named + usual + divided))

    def annotation_file(self, split: str) -> Path:
        """Return the file (in some formats the folder) that holds a split.

        Raises DataError where there is none.
        """
        split = split_files.canonical_split(split)
        if self._uses_validation_fraction(split):
            if own := self.candidates("validation"):
                raise DataError(
                    f"{own[0]}: the data has a validation file already; set "
                    "data.validation_fraction=0 to use it"
                )
            split = "train"
        found = self.candidates(split)
        if len(found) != 1:
            raise DataError(
                self._ambiguous_split_message(split, found)
                if found
                else self._missing_split_message(split)
            )
        try:
            _check_readable(found[0])
        except OSError as mistake:
            raise DataError(
                f"{found[0]} cannot be read ({mistake.strerror}); check data.path and data.splits"
            ) from mistake
        return found[0]

    def _uses_validation_fraction(self, split: str) -> bool:
        return self.validation_fraction > 0 and split in ("train", "validation")

    def _is_held_out(self, image: str, root: str) -> bool:
        """Draw by the image's path relative to its annotations: the same on every machine."""
        inside = image.startswith(root + os.sep)
        relative = image[len(root) + 1 :] if inside else os.path.relpath(image, root)
        drawn = int.from_bytes(blake2b(os.fsencode(relative), digest_size=8).digest(), "big")
        return drawn < self.validation_fraction * 2**64

    def candidates(self, split: str) -> list[Path]:
        """Return what could be the file of a split: one, none, or several to choose from."""
        for name, file in self.splits.items():
            if split_files.canonical_split(name) == split:
                return [self.folder() / Path(file).expanduser()]
        location = self.resolved_path()
        if location.is_file():
            return [location] if split == "train" else []
        return split_files.find_split_files(
            location, self.search_patterns(), split, include_folders=self.accepts_folders
        )

    def _ambiguous_split_message(self, split: str, candidates: list[Path]) -> str:
        files = ", ".join(os.path.relpath(file, self.folder()) for file in candidates)
        return (
            f"{self.resolved_path()}: several files could be split {split!r}: {files}; "
            f"say which with data.splits.{split}=FILE"
        )

    def _missing_split_message(self, split: str) -> str:
        location = self.resolved_path()
        if not location.exists():
            return f"data.path: {location} does not exist; give the folder of the data"
        if location.is_file():
            looked = "data.path is a file, which is the split 'train'"
        else:
            looked = f"looked for {', '.join(self.search_patterns()).format(split=split)}"
            if others := split_files.split_aliases(split)[1:]:
                looked += f", also as {' and '.join(others)}"
        hint = f"name its file with data.splits.{split}=FILE"
        if split == "validation":
            hint += " or hold out a share of train with data.validation_fraction=0.1"
        found = ", ".join(self.available_splits()) or "none"
        return f"{location}: no split {split!r} ({looked}; splits found: {found}); {hint}"


def _check_readable(path: Path) -> None:
    """Raise OSError where a file or folder cannot be read."""
    if path.is_dir():
        next(os.scandir(path), None)
    else:
        path.open("rb").close()


@dataclass(frozen=True)
class DatasetSpec:
    """A source, the task that reads it, and how the two appear in a run."""

    name: str
    """Name of the part in numbers and files, e.g. `ocr/exact_match`."""
    task: Task
    source: Source
    repeat: int = 1
    """Visits to every example in one training epoch."""
    weight: float | None = None
    """Instead of `repeat`: its share of the visits, relative to that of the others; 0: none."""
    temperature: float | None = None
    """Instead of both: the weight is the number of examples to the power of 1 / temperature."""
    shots: int | None = None
    """Examples that are learned from; None: all."""
