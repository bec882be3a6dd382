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

from palitune.data.cache import BATCH, SCHEMA, cached
from palitune.data.proportions import Proportions
from palitune.data.sources.base import Data, Pairing, Source
from palitune.data.sources.lookup import canonical
from palitune.examples import DataError, Example, Row, row_from_json, value_from_json
from palitune.tasks import Task

log = logging.getLogger(__name__)

_WITH_PATHS = ("images", "place", "row")
"""Columns that say where things lie."""


class Examples(Sequence[Example]):
    """The examples of one part and split, read from disk one by one as they are asked for.

    A copy sent to another process carries the folder's name only.
    """

    def __init__(self, folder: Path, part: str, chosen: Sequence[int] | None = None) -> None:
        """`chosen`: lines of the examples that there are, in this order; None: all."""
        self.folder = folder
        self.part = part
        self.chosen = chosen
        self.skipped: list[str] = json.loads((folder / "skipped.json").read_text("utf-8"))
        """A sentence for every bad row that was left out."""
        self.left_out: list[str] = json.loads((folder / "left_out.json").read_text("utf-8"))
        """A sentence for every setting of the task by which something was left out."""
        stream = pa.ipc.open_stream(pa.memory_map(str(folder / "examples.arrow")))
        self._batches = list(stream)
        written: int = sum(batch.num_rows for batch in self._batches)
        self._count = written if chosen is None else len(chosen)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        batch, line = self._line(index)
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
            place=place,
            part=self.part,
            attributes=json.loads(attributes),
            choices=tuple(choices),
            marked=None if marked is None else tuple(marked),
            silent=tuple((start, end) for start, end in silent),
        )

    def row(self, index: int) -> Row:
        """Return the row that the task wrote an example of."""
        batch, line = self._line(index)
        return row_from_json(json.loads(self._batches[batch]["row"][line].as_py()))

    def drawn(self, count: int, seed: int) -> "Examples":
        """Return `count` of the examples: those of the images that a draw puts first.

        More of them hold the fewer, and parts that share images draw the same ones.
        """
        names = ["|".join(Path(path).name for path in example.images) for example in self]
        draws = [sha256(f"{seed}:{name}".encode("utf-8", "replace")).digest() for name in names]
        order = sorted(range(len(self)), key=lambda index: (draws[index], index))
        return Examples(self.folder, self.part, order[:count])

    def _line(self, index: int) -> tuple[int, int]:
        position = _position(index, len(self))
        return divmod(position if self.chosen is None else self.chosen[position], BATCH)

    def fingerprint(self) -> str:
        """Digest what the examples say: equal for equal data on any machine, in any folder.

        Everything counts but the images' pixels, for which the file names stand.
        """
        digest = sha256(repr(self.chosen).encode() if self.chosen is not None else b"")
        for batch in self._batches:
            for column in (name for name in SCHEMA.names if name not in _WITH_PATHS):
                digest.update(repr(batch.column(column).to_pylist()).encode("utf-8", "replace"))
            for images in batch.column("images").to_pylist():
                digest.update(
                    repr([Path(image).name for image in images]).encode("utf-8", "replace")
                )
        return digest.hexdigest()[:16]

    def __reduce__(self) -> tuple[type["Examples"], tuple[Path, str, Sequence[int] | None]]:
        return Examples, (self.folder, self.part, self.chosen)


@dataclass(frozen=True)
class Part:
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
    def is_answered(self) -> bool:
        """Whether there are references to judge predictions by."""
        return bool(self.examples[0].suffixes)


class Concatenated(Sequence[Example]):
    """Several parts one after the other, each as often as its `repeat` says, or weighted."""

    def __init__(self, parts: list[Part]) -> None:
        self._parts = parts
        self._ends = list(accumulate(len(part.examples) * part.repeat for part in parts))
        self.tasks = {part.name: part.task for part in parts}

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

    def proportions(self, seed: int) -> Proportions | None:
        """Return how an epoch is dealt out where the parts are weighted.

        Raises DataError where a part would go empty.
        """
        weights = [part.weight for part in self._parts if part.weight is not None]
        if not weights:
            return None
        for part, weight in zip(self._parts, weights, strict=True):
            if weight * len(self) < sum(weights):
                raise DataError(
                    f"data.parts.{part.name}: by its weight it gets {weight / sum(weights):.1e} of "
                    f"the {len(self)} visits of an epoch, less than one; raise it, or say weight=0"
                )
        return Proportions([len(part.examples) for part in self._parts], weights, seed)

    def locate(self, index: int) -> tuple[Part, int, int]:
        """Return the part that an example belongs to, its position there, and which of the part's
        repeats this is.
        """
        position = _position(index, len(self))
        number = bisect_right(self._ends, position)
        part, start = self._parts[number], self._ends[number - 1] if number else 0
        copy, place = divmod(position - start, len(part.examples))
        return part, place, copy


def load(data: Data, task: Task | None, split: str, *, unanswered: bool = False) -> list[Part]:
    """Return the parts of a data set for one split, out of the cache or built into it.

    `task` is None for a mixture, whose parts bring their own; `unanswered` lets a split through
    that has prompts only, as the test sets of benchmarks do. Raises DataError for a fault in the
    data, ValueError where task and data do not go together.
    """
    return [_part(pairing, split, unanswered) for pairing in data.pairings(task)]


def load_training(data: Data, task: Task | None, split: str, seed: int) -> list[Part]:
    """Return the parts that are learned from, with so many examples of each as are wanted.

    Those are drawn by the seed. Raises as `load` does, and DataError where there are fewer.
    """
    parts = []
    for pairing in data.pairings(task):
        if pairing.weight == 0:
            continue
        part = _part(pairing, split, unanswered=False)
        if pairing.shots is not None:
            if pairing.shots > len(part.examples):
                raise DataError(
                    f"data.parts.{part.name}.shots={pairing.shots}: split {split!r} has "
                    f"{len(part.examples)} examples; ask for fewer, or for all of them with null"
                )
            part = replace(part, examples=part.examples.drawn(pairing.shots, seed))
        if pairing.temperature is not None:
            part = replace(part, weight=len(part.examples) ** (1 / pairing.temperature))
        parts.append(part)
    return parts


def _part(pairing: Pairing, split: str, unanswered: bool) -> Part:
    examples = _examples(pairing, canonical(split), unanswered)
    if skipped := examples.skipped:
        log.warning(
            "%s, %s: bad rows skipped: %d, the first: %s",
            pairing.name, split, len(skipped), skipped[0],
        )  # fmt: skip
    for sentence in examples.left_out:
        log.warning("%s, %s: %s", pairing.name, split, sentence)
    return Part(
        pairing.name,
        pairing.task,
        examples,
        pairing.repeat,
        pairing.source,
        canonical(split),
        pairing.weight,
    )


def concatenate(parts: list[Part]) -> Concatenated:
    """Return the training set: the parts one after the other, repeated as they say."""
    return Concatenated(parts)


def _examples(pairing: Pairing, split: str, unanswered: bool) -> Examples:
    folder = cached(pairing.source, pairing.task, split, unanswered=unanswered)
    examples = Examples(folder, pairing.name)
    if not all(Path(image).exists() for image in examples[0].images):
        # The images have moved since: find them anew, or say which row lacks its image.
        shutil.rmtree(folder, ignore_errors=True)
        folder = cached(pairing.source, pairing.task, split, unanswered=unanswered)
        examples = Examples(folder, pairing.name)
    if not (unanswered or examples[0].suffixes):
        raise DataError(
            f"{examples[0].place}: split {split!r} holds prompts without references, and nothing "
            "can be learned from or judged by it; `palitune evaluate` writes predictions for it"
        )
    return examples


def _position(index: int, count: int) -> int:
    position = operator.index(index)
    if not -count <= position < count:
        raise IndexError(f"example {position} of {count}")
    return position % count
