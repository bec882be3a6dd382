"""Data sets of a run: memory-mapped examples by component, and their concatenation."""

import json
import logging
import operator
import os
import shutil
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import pyarrow as pa

from palitune.data.example_cache import RECORD_BATCH_SIZE, SCHEMA, ensure_cached
from palitune.data.mixture_schedule import MixtureSchedule
from palitune.data.sources.base import Data, DatasetSpec, Source
from palitune.data.sources.split_files import canonical_split
from palitune.errors import DataError
from palitune.records import Example, Row, row_from_json, value_from_json
from palitune.tasks import Task

log = logging.getLogger(__name__)

_PATH_COLUMNS = ("images", "location", "row")
"""Columns that contain paths."""


class _ExampleSequence(Sequence[Example], ABC):
    """A sequence of examples that are read by position."""

    @abstractmethod
    def _read(self, position: int) -> Example:
        """Return the example at a position in [0, len)."""

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._read(self._position(index))

    def _position(self, index: int) -> int:
        """Return the position of an index, which may be negative."""
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        return index % len(self)


class Examples(_ExampleSequence):
    """The examples of one component and split, memory-mapped; each is decoded when it is read.

    Pickling stores the folder, not the examples.

    Args:
        folder: Folder in the example cache.
        component: Name of the component.
        indices: Cached examples that the sequence consists of, in this order; None: all.
    """

    def __init__(self, folder: Path, component: str, indices: Sequence[int] | None = None) -> None:
        self.folder = folder
        self.component = component
        self.indices = indices
        self.skipped: list[str] = json.loads((folder / "skipped.json").read_text("utf-8"))
        """A message for each bad row."""
        self.dropped: list[str] = json.loads((folder / "dropped.json").read_text("utf-8"))
        """A message for each reason why the task dropped something."""
        self._batches = list(pa.ipc.open_stream(pa.memory_map(str(folder / "examples.arrow"))))
        self._count = (
            sum(batch.num_rows for batch in self._batches) if indices is None else len(indices)
        )

    def __len__(self) -> int:
        return self._count

    def _read(self, position: int) -> Example:
        batch, offset = self._locate(position)
        [columns] = batch.slice(offset, 1).drop_columns("row").to_pylist()
        return self._make_example(columns)

    def __iter__(self) -> Iterator[Example]:
        """Yield all examples, decoded a record batch at a time, which is several times as fast."""
        if self.indices is not None:
            yield from super().__iter__()
            return
        for batch in self._batches:
            yield from map(self._make_example, batch.drop_columns("row").to_pylist())

    def _make_example(self, columns: dict[str, Any]) -> Example:
        return Example(
            id=columns["id"],
            images=tuple(columns["images"]),
            size=(columns["width"], columns["height"]),
            prefix=columns["prefix"],
            suffixes=tuple(columns["suffixes"]),
            reference=value_from_json(json.loads(columns["reference"])),
            location=columns["location"],
            component=self.component,
            attributes=json.loads(columns["attributes"]),
            choices=tuple(columns["choices"]),
            marked_box=None if columns["marked_box"] is None else tuple(columns["marked_box"]),
            tile=None if columns["tile"] is None else tuple(columns["tile"]),
            no_loss_spans=tuple((start, end) for start, end in columns["no_loss_spans"]),
        )

    def row(self, index: int) -> Row:
        """Return the row that the task wrote an example from."""
        batch, offset = self._locate(self._position(index))
        return row_from_json(json.loads(batch["row"][offset].as_py()))

    def subsample(self, count: int, seed: int) -> "Examples":
        """Return a random selection of `count` examples.

        A larger selection contains the smaller ones. The choice depends on the image file names, so
        components that share images select the same ones.
        """
        names = ["|".join(Path(path).name for path in example.images) for example in self]
        keys = [sha256(f"{seed}:{name}".encode("utf-8", "replace")).digest() for name in names]
        order = sorted(range(len(self)), key=lambda index: (keys[index], index))
        return Examples(self.folder, self.component, order[:count])

    def _locate(self, position: int) -> tuple[pa.RecordBatch, int]:
        """Return the record batch of an example and its row in it."""
        line = position if self.indices is None else self.indices[position]
        batch, offset = divmod(line, RECORD_BATCH_SIZE)
        return self._batches[batch], offset

    def fingerprint(self) -> str:
        """Return a digest of the examples that is the same on any machine and in any folder.

        It covers all columns but the pixels of the images, which their file names stand for.
        """
        digest = sha256(repr(self.indices).encode() if self.indices is not None else b"")
        for batch in self._batches:
            for column in (name for name in SCHEMA.names if name not in _PATH_COLUMNS):
                digest.update(repr(batch.column(column).to_pylist()).encode("utf-8", "replace"))
            for images in batch.column("images").to_pylist():
                names = [os.path.basename(image) for image in images]  # faster than Path's name
                digest.update(repr(names).encode("utf-8", "replace"))
        return digest.hexdigest()[:16]

    def __reduce__(self) -> tuple[type["Examples"], tuple[Path, str, Sequence[int] | None]]:
        return Examples, (self.folder, self.component, self.indices)


@dataclass(frozen=True)
class TaskDataset:
    """One data set of a run with its task."""

    name: str
    task: Task
    examples: Examples
    repeat: int
    """Visits to every example in one training epoch."""
    source: Source
    split: str
    weight: float | None = None
    """Instead of `repeat`: number of training samples relative to the other components."""

    @property
    def has_references(self) -> bool:
        return bool(self.examples[0].suffixes)


class ConcatDataset(_ExampleSequence):
    """Several data sets one after the other, each `repeat` times."""

    def __init__(self, datasets: list[TaskDataset]) -> None:
        self._datasets = datasets
        self._ends = list(
            accumulate(len(dataset.examples) * dataset.repeat for dataset in datasets)
        )
        self.tasks = {dataset.name: dataset.task for dataset in datasets}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _read(self, position: int) -> Example:
        dataset, offset, _ = self.locate(position)
        return dataset.examples[offset]

    def __iter__(self) -> Iterator[Example]:
        """Yield all examples in order, one pass over a data set after the other."""
        for dataset in self._datasets:
            for _ in range(dataset.repeat):
                yield from dataset.examples

    def mixture_schedule(self, seed: int) -> MixtureSchedule | None:
        """Return the visits of each epoch if the components have weights.

        Raises DataError if the weight of a component gives it less than one sample per epoch.
        """
        weights = [dataset.weight for dataset in self._datasets if dataset.weight is not None]
        if not weights:
            return None
        for dataset, weight in zip(self._datasets, weights, strict=True):
            if weight * len(self) < sum(weights):
                raise DataError(
                    f"data.parts.{dataset.name}: its weight gives it {weight / sum(weights):.1e} "
                    f"of the {len(self)} samples of an epoch, less than one; raise it, or set it "
                    "to 0"
                )
        sizes = [len(dataset.examples) for dataset in self._datasets]
        return MixtureSchedule(sizes, weights, seed)

    def locate(self, index: int) -> tuple[TaskDataset, int, int]:
        """Return an example's data set, its position there, and the number of the repetition."""
        position = self._position(index)
        number = bisect_right(self._ends, position)
        dataset, start = self._datasets[number], self._ends[number - 1] if number else 0
        copy, offset = divmod(position - start, len(dataset.examples))
        return dataset, offset, copy


def load_split(
    data: Data,
    task: Task | None,
    split: str | None,
    *,
    allow_missing_references: bool = False,
    tiles: bool = False,
) -> list[TaskDataset]:
    """Return the data sets of one split from the example cache, which is written if necessary.

    Args:
        data: A data source, or a mixture.
        task: The task; None for a mixture, whose components have their own.
        split: Name of the split; with None the result is empty.
        allow_missing_references: Accept a split that has prompts only (a benchmark's test set).
        tiles: Cut the images as for training, if `data.tiles` is set.

    Raises:
        DataError: The data is invalid.
        ValueError: Task and data do not fit together.
    """
    if split is None:
        return []
    return [
        _load_task_dataset(spec if tiles else whole_images(spec), split, allow_missing_references)
        for spec in data.dataset_specs(task)
    ]


def whole_images(spec: DatasetSpec) -> DatasetSpec:
    """Return a data set whose images are not cut into tiles."""
    return replace(spec, source=replace(spec.source, tiles=None))


def load_training_split(data: Data, task: Task | None, split: str, seed: int) -> list[TaskDataset]:
    """Return the data sets to train on, without components of weight 0.

    Args:
        data: A data source, or a mixture.
        task: The task; None for a mixture, whose components have their own.
        split: Name of the split.
        seed: Seed of the selection of `shots` examples.

    Raises:
        DataError: The data is invalid, or has fewer examples than `shots`.
        ValueError: Task and data do not fit together.
    """
    datasets = []
    for spec in data.dataset_specs(task):
        if spec.weight == 0:
            continue
        dataset = _load_task_dataset(spec, split, allow_missing_references=False)
        if spec.shots is not None:
            if spec.shots > len(dataset.examples):
                raise DataError(
                    f"data.parts.{dataset.name}.shots must be at most {len(dataset.examples)}, the "
                    f"examples of split {split!r}, got {spec.shots}. Set it lower, or to null for "
                    "all."
                )
            dataset = replace(dataset, examples=dataset.examples.subsample(spec.shots, seed))
        if spec.temperature is not None:
            dataset = replace(dataset, weight=len(dataset.examples) ** (1 / spec.temperature))
        datasets.append(dataset)
    return datasets


def _load_task_dataset(
    spec: DatasetSpec, split: str, allow_missing_references: bool
) -> TaskDataset:
    split = canonical_split(split)
    try:
        spec.task.infer_settings(lambda: _training_rows(spec.source, split))
    except ValueError as error:
        raise DataError(str(error)) from error
    examples = _load_examples(spec, split, allow_missing_references)
    if split == "train":
        spec.task.check_training_examples(examples)
    if skipped := examples.skipped:
        log.warning(
            "%s, %s: bad rows skipped: %d, the first: %s",
            spec.name, split, len(skipped), skipped[0],
        )  # fmt: skip
    for message in examples.dropped:
        log.warning("%s, %s: %s", spec.name, split, message)
    return TaskDataset(spec.name, spec.task, examples, spec.repeat, spec.source, split, spec.weight)


def _training_rows(source: Source, split: str) -> Iterable[Row | DataError]:
    """Read the split `train`, or the given split of a source without it."""
    try:
        source.annotation_file("train")
    except DataError:
        return source.rows(split)
    return source.rows("train")


def _load_examples(spec: DatasetSpec, split: str, allow_missing_references: bool) -> Examples:
    def load() -> Examples:
        folder = ensure_cached(
            spec.source, spec.task, split, allow_missing_references=allow_missing_references
        )
        return Examples(folder, spec.name)

    examples = load()
    if not all(Path(image).exists() for image in examples[0].images):
        # The images have moved: search them again, or report the row whose image is missing.
        shutil.rmtree(examples.folder, ignore_errors=True)
        examples = load()
    if not (allow_missing_references or examples[0].suffixes):
        raise DataError(
            f"{examples[0].location}: split {split!r} has prompts without references and cannot be "
            "used for training or scoring; `palitune evaluate` writes predictions for it"
        )
    return examples
