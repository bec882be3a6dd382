"""Examples on disk, memory-mapped; the parts of a run, and the training set out of them."""

import json
import logging
import operator
import shutil
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import overload

import pyarrow as pa

from palitune.data.example_cache import RECORD_BATCH_SIZE, SCHEMA, ensure_cached
from palitune.data.mixture_schedule import MixtureSchedule
from palitune.data.sources.base import Data, DatasetSpec, Source
from palitune.data.sources.split_files import canonical_split
from palitune.errors import DataError
from palitune.records import Example, Row, row_from_json, value_from_json
from palitune.tasks import Task

log = logging.getLogger(__name__)

_PATH_COLUMNS = ("images", "place", "row")
"""Columns that say where things lie."""


class Examples(Sequence[Example]):
    """The examples of one part and split, read from disk one by one as they are asked for.

    A copy sent to another process carries the folder's name only.
    """

    def __init__(self, folder: Path, component: str, indices: Sequence[int] | None = None) -> None:
        """`chosen`: lines of the examples that there are, in this order; None: all."""
        self.folder = folder
        self.component = component
        self.indices = indices
        self.skipped: list[str] = json.loads((folder / "skipped.json").read_text("utf-8"))
        """A sentence for every bad row that was left out."""
        self.dropped: list[str] = json.loads((folder / "left_out.json").read_text("utf-8"))
        """A sentence for every setting of the task by which something was left out."""
        stream = pa.ipc.open_stream(pa.memory_map(str(folder / "examples.arrow")))
        self._batches = list(stream)
        written: int = sum(batch.num_rows for batch in self._batches)
        self._count = written if indices is None else len(indices)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        batch, line = self._batch_and_row(index)
        columns = self._batches[batch].drop_columns("row").columns
        cells = (column[line].as_py() for column in columns)
        id_, images, width, height, prefix, suffixes, reference, place, *more = cells
        attributes, choices, marked, silent = more
        return Example(
            id=id_,
            images=tuple(images),
            size=(width, height),
            prefix=prefix,
            suffixes=tuple(suffixes),
            reference=value_from_json(json.loads(reference)),
            location=place,
            component=self.component,
            attributes=json.loads(attributes),
            choices=tuple(choices),
            marked_box=None if marked is None else tuple(marked),
            no_loss_spans=tuple((start, end) for start, end in silent),
        )

    def row(self, index: int) -> Row:
        """Return the row that the task wrote an example of."""
        batch, line = self._batch_and_row(index)
        return row_from_json(json.loads(self._batches[batch]["row"][line].as_py()))

    def subsample(self, count: int, seed: int) -> "Examples":
        """Return `count` of the examples: those of the images that a draw puts first.

        More of them hold the fewer, and parts that share images draw the same ones.
        """
        names = ["|".join(Path(path).name for path in example.images) for example in self]
        draws = [sha256(f"{seed}:{name}".encode("utf-8", "replace")).digest() for name in names]
        order = sorted(range(len(self)), key=lambda index: (draws[index], index))
        return Examples(self.folder, self.component, order[:count])

    def _batch_and_row(self, index: int) -> tuple[int, int]:
        position = _normalize_index(index, len(self))
        return divmod(
            position if self.indices is None else self.indices[position], RECORD_BATCH_SIZE
        )

    def fingerprint(self) -> str:
        """Digest what the examples say: equal for equal data on any machine, in any folder.

        Everything counts but the images' pixels, for which the file names stand.
        """
        digest = sha256(repr(self.indices).encode() if self.indices is not None else b"")
        for batch in self._batches:
            for column in (name for name in SCHEMA.names if name not in _PATH_COLUMNS):
                digest.update(repr(batch.column(column).to_pylist()).encode("utf-8", "replace"))
            for images in batch.column("images").to_pylist():
                digest.update(
                    repr([Path(image).name for image in images]).encode("utf-8", "replace")
                )
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
    """Where the examples come from."""
    split: str
    weight: float | None = None
    """Instead of `repeat`: its share of the visits, relative to that of the others."""

    @property
    def has_references(self) -> bool:
        """Whether there are references to judge predictions by."""
        return bool(self.examples[0].suffixes)


class ConcatDataset(Sequence[Example]):
    """Several parts one after the other, each as often as its `repeat` says, or weighted."""

    def __init__(self, datasets: list[TaskDataset]) -> None:
        self._datasets = datasets
        self._ends = list(accumulate(len(part.examples) * part.repeat for part in datasets))
        self.tasks = {part.name: part.task for part in datasets}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        part, position, _ = self.locate(index)
        return part.examples[position]

    def mixture_schedule(self, seed: int) -> MixtureSchedule | None:
        """Return how an epoch is dealt out where the parts are weighted.

        Raises DataError where a part would go empty.
        """
        weights = [part.weight for part in self._datasets if part.weight is not None]
        if not weights:
            return None
        for part, weight in zip(self._datasets, weights, strict=True):
            if weight * len(self) < sum(weights):
                raise DataError(
                    f"data.parts.{part.name}: by its weight it gets {weight / sum(weights):.1e} of "
                    f"the {len(self)} visits of an epoch, less than one; raise it, or say weight=0"
                )
        return MixtureSchedule([len(part.examples) for part in self._datasets], weights, seed)

    def locate(self, index: int) -> tuple[TaskDataset, int, int]:
        """Return the part that an example belongs to, its position there, and which of the part's
        repeats this is.
        """
        position = _normalize_index(index, len(self))
        number = bisect_right(self._ends, position)
        part, start = self._datasets[number], self._ends[number - 1] if number else 0
        copy, place = divmod(position - start, len(part.examples))
        return part, place, copy


def load_split(
    data: Data, task: Task | None, split: str | None, *, allow_missing_references: bool = False
) -> list[TaskDataset]:
    """Return the datasets of one split, from the example cache or built into it.

    Args:
        data: A data source, or a mixture.
        task: The task; None for a mixture, whose components have their own.
        split: Name of the split; with None the result is empty.
        allow_missing_references: Accept a split that has prompts only (a benchmark's test set).

    Raises:
        DataError: The data is invalid.
        ValueError: Task and data do not fit together.
    """
    if split is None:
        return []
    return [
        _load_task_dataset(pairing, split, allow_missing_references)
        for pairing in data.dataset_specs(task)
    ]


def load_training_split(data: Data, task: Task | None, split: str, seed: int) -> list[TaskDataset]:
    """Return the parts that are learned from, with so many examples of each as are wanted.

    Those are drawn by the seed. Raises as `load` does, and DataError where there are fewer.
    """
    parts = []
    for pairing in data.dataset_specs(task):
        if pairing.weight == 0:
            continue
        part = _load_task_dataset(pairing, split, allow_missing_references=False)
        if pairing.shots is not None:
            if pairing.shots > len(part.examples):
                raise DataError(
                    f"data.parts.{part.name}.shots={pairing.shots}: split {split!r} has "
                    f"{len(part.examples)} examples; ask for fewer, or for all of them with null"
                )
            part = replace(part, examples=part.examples.subsample(pairing.shots, seed))
        if pairing.temperature is not None:
            part = replace(part, weight=len(part.examples) ** (1 / pairing.temperature))
        parts.append(part)
    return parts


def _load_task_dataset(
    spec: DatasetSpec, split: str, allow_missing_references: bool
) -> TaskDataset:
    examples = _load_examples(spec, canonical_split(split), allow_missing_references)
    if skipped := examples.skipped:
        log.warning(
            "%s, %s: bad rows skipped: %d, the first: %s",
            spec.name, split, len(skipped), skipped[0],
        )  # fmt: skip
    for sentence in examples.dropped:
        log.warning("%s, %s: %s", spec.name, split, sentence)
    return TaskDataset(
        spec.name,
        spec.task,
        examples,
        spec.repeat,
        spec.source,
        canonical_split(split),
        spec.weight,
    )


def concatenate_datasets(datasets: list[TaskDataset]) -> ConcatDataset:
    """Return the training set: the parts one after the other, repeated as they say."""
    return ConcatDataset(datasets)


def _load_examples(spec: DatasetSpec, split: str, allow_missing_references: bool) -> Examples:
    folder = ensure_cached(
        spec.source, spec.task, split, allow_missing_references=allow_missing_references
    )
    examples = Examples(folder, spec.name)
    if not all(Path(image).exists() for image in examples[0].images):
        # The images have moved since: find them anew, or say which row lacks its image.
        shutil.rmtree(folder, ignore_errors=True)
        folder = ensure_cached(
            spec.source, spec.task, split, allow_missing_references=allow_missing_references
        )
        examples = Examples(folder, spec.name)
    if not (allow_missing_references or examples[0].suffixes):
        raise DataError(
            f"{examples[0].location}: split {split!r} holds prompts without references, and nothing "
            "can be learned from or judged by it; `palitune evaluate` writes predictions for it"
        )
    return examples


def _normalize_index(index: int, count: int) -> int:
    position = operator.index(index)
    if not -count <= position < count:
        raise IndexError(f"example {position} of {count}")
    return position % count
