"""Base classes of data sources: settings, splits and annotation files."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Interval

from palitune.data.images.tiles import TrainingTiles
from palitune.data.sources.box_formats import BoxClipping
from palitune.data.sources.split_files import (
    SPLITS,
    canonical_split,
    find_split_files,
    split_aliases,
)
from palitune.errors import DataError, check_ranges
from palitune.records import Row
from palitune.tasks import TASKS, Task
from palitune.tasks.mask_task import MaskTask


@dataclass(kw_only=True)
class Data(ABC):
    """Data of a run: one source, or a mixture of several."""

    name: ClassVar[str]

    @abstractmethod
    def dataset_specs(self, task: Task | None) -> list["DatasetSpec"]:
        """Return every source with the task that reads it.

        Args:
            task: Task of the run; None if the run sets none.

        Raises:
            ValueError: A task is missing, or is set where the data brings its own.
        """


@dataclass(kw_only=True)
class Source(Data):
    """One data set in one format.

    The file of a split is the one set in `splits`, else the match of the first of `patterns` that
    matches under `path`. Files of the split `validation` may be named `validation`, `val` or
    `valid`. If `path` is a file, it is the split `train`.
    """

    patterns: ClassVar[tuple[str, ...]]
    """Possible paths of the annotation file of `{split}`, relative to `path`, with wildcards."""
    accepts_folders: ClassVar[bool] = False
    """Whether the annotations of a split may be a folder."""

    path: str
    """Folder of the data, or the annotation file of the split `train`."""
    splits: dict[str, str] = field(default_factory=dict)
    """Annotation file of each split, by the name of the split; relative to `path` or absolute."""
    max_samples: Annotated[int | None, Ge(1)] = None
    """Use only the first examples of each split, up to this number (null: all)."""
    validation_fraction: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Fraction of `train` that becomes `validation`; rows of one image stay together."""
    max_bad_rows: Annotated[int, Ge(0)] = 0
    """Number of invalid rows per split to skip and list; more than this stops the run."""

    clip_boxes: BoxClipping = BoxClipping.edge
    """Boxes beyond the edge of the image that are clipped and counted: edge (those up to 2 px or
    1 % of the side beyond it) | all | none. Other boxes beyond the edge are invalid."""

    tiles: TrainingTiles | None = None
    """Cut training images into overlapping tiles, for small objects in large images:
    {size: 448, overlap: 0.2}; null: whole images. Evaluated images stay whole; see
    evaluation.tiles."""

    def __post_init__(self) -> None:
        check_ranges(self, "data")

    @abstractmethod
    def read(self, file: Path, split: str) -> Iterator[Row | DataError]:
        """Yield the rows of an annotation file or, in some formats, of a folder.

        An invalid row is yielded as its DataError. Raises DataError if the file as a whole cannot
        be read.
        """

    def dataset_specs(self, task: Task | None) -> list["DatasetSpec"]:
        if task is None:
            raise ValueError(f"task is missing: choose one of {', '.join(TASKS)} with task=NAME")
        if self.tiles is not None and not task.allow_crop:
            raise ValueError(
                "data.tiles must be null for a task without the boxes of all objects, got "
                f"{task.name}. Set task=detection or task=segmentation, or data.tiles=null."
            )
        return [DatasetSpec(task.name, task, self.for_task(task))]

    def for_task(self, task: Task) -> "Source":
        """Return the source with the settings that a task requires: masks for a task with masks."""
        has_setting = any(field.name == "masks" for field in fields(self))
        if has_setting and isinstance(task, MaskTask):
            return replace(self, masks=True)  # type: ignore[call-arg]
        return self

    def rows(self, split: str) -> Iterator[Row | DataError]:
        """Yield the rows of a split; an invalid row is yielded as its DataError.

        Raises DataError if the split does not exist or its file cannot be read.
        """
        split = canonical_split(split)
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
                    f"{row.location}: data.validation_fraction must be 0 for rows of several "
                    f"images, got {self.validation_fraction}. Put the validation rows into a "
                    "separate file."
                )
            elif self._is_held_out(row.images[0], root) == (split == "validation"):
                yield row

    def files(self, split: str) -> Iterable[Path]:
        """Return every file that the rows of a split depend on, except the images."""
        return [self.annotation_file(split)]

    def class_ids(self, split: str) -> dict[str, int | str]:
        """Return the id of each class in the data; empty if the format has no ids."""
        return {}

    def search_patterns(self) -> list[str]:
        """Return the paths at which annotation files are searched for, in order."""
        return list(self.patterns)

    def resolved_path(self) -> Path:
        """Return `path` with `~` expanded."""
        return Path(self.path).expanduser()

    def folder(self) -> Path:
        """Return the folder that relative paths in settings start from."""
        location = self.resolved_path()
        return location.parent if location.is_file() else location

    def available_splits(self) -> list[str]:
        """Return the names of the splits that exist."""
        splits = [canonical_split(split) for split in self.splits]
        splits += [split for split in SPLITS if self.candidates(split)]
        if self.validation_fraction and "train" in splits:
            splits.append("validation")
        return list(dict.fromkeys(splits))

    def shares_rows(self, first: str, second: str) -> bool:
        """Return whether two splits have the same rows because one is made of the other."""
        return False

    def annotation_file(self, split: str) -> Path:
        """Return the file (in some formats the folder) of a split.

        Raises DataError if there is none, or more than one.
        """
        split = canonical_split(split)
        if self._uses_validation_fraction(split):
            if files := self.candidates("validation"):
                raise DataError(
                    f"{files[0]}: data.validation_fraction must be 0 for data with a validation "
                    f"file, got {self.validation_fraction}. Set data.validation_fraction=0 to use "
                    "the file."
                )
            split = "train"
        candidates = self.candidates(split)
        if not candidates:
            raise DataError(self._missing_split_message(split))
        if len(candidates) > 1:
            raise DataError(self._ambiguous_split_message(split, candidates))
        [file] = candidates
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise DataError(
                f"{file} must be a file, got a pipe or a device, which can block or never end. "
                "Copy its content to a file."
            )
        try:
            next(os.scandir(file), None) if file.is_dir() else file.open("rb").close()
        except OSError as error:
            raise DataError(
                f"{file} cannot be read ({error.strerror}). Check data.path and data.splits."
            ) from error
        return file

    def _uses_validation_fraction(self, split: str) -> bool:
        return self.validation_fraction > 0 and split in ("train", "validation")

    def _is_held_out(self, image: str, root: str) -> bool:
        """Return whether an image belongs to `validation`, by a hash of its relative path."""
        inside = image.startswith(root + os.sep)
        relative = image[len(root) + 1 :] if inside else os.path.relpath(image, root)
        digest = blake2b(os.fsencode(relative), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.validation_fraction * 2**64

    def candidates(self, split: str) -> list[Path]:
        """Return the possible files of a split."""
        for name, file in self.splits.items():
            if canonical_split(name) == split:
                return [self.folder() / Path(file).expanduser()]
        location = self.resolved_path()
        if location.is_file():
            return [location] if split == "train" else []
        return find_split_files(
            location, self.search_patterns(), split, include_folders=self.accepts_folders
        )

    def _ambiguous_split_message(self, split: str, candidates: list[Path]) -> str:
        files = ", ".join(os.path.relpath(file, self.folder()) for file in candidates)
        return (
            f"{self.resolved_path()}: split {split!r} must be one file, got {files}. "
            f"Choose one with data.splits.{split}=FILE."
        )

    def _missing_split_message(self, split: str) -> str:
        location = self.resolved_path()
        if not location.exists():
            return f"data.path: {location} does not exist. Set it to the folder of the data."
        if location.is_file():
            searched = "data.path is a file, which is the split 'train'"
        else:
            searched = f"searched for {', '.join(self.search_patterns()).format(split=split)}"
            if aliases := split_aliases(split)[1:]:
                searched += f", also as {' and '.join(aliases)}"
        hint = f"Set data.splits.{split}=FILE"
        if split == "validation":
            hint += " or hold out a fraction of train with data.validation_fraction=0.1"
        available = ", ".join(self.available_splits()) or "none"
        return f"{location}: no split {split!r} ({searched}; splits: {available}). {hint}."


@dataclass(frozen=True)
class DatasetSpec:
    """A source with its task and its share of the training."""

    name: str
    """Name of the component in metrics and files, e.g. `ocr` in `ocr/exact_match`."""
    task: Task
    source: Source
    repeat: int = 1
    """Visits to every example in one training epoch."""
    weight: float | None = None
    """Replaces `repeat`: share of the visits, relative to the other components; 0: none."""
    temperature: float | None = None
    """Replaces both: the weight is the number of examples to the power of 1 / temperature."""
    shots: int | None = None
    """Number of examples to train on; None: all."""
