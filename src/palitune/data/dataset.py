"""Examples on disk, memory-mapped; the parts of a run, and the training set out of them."""

import json
import logging
import operator
import shutil
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import overload

import pyarrow as pa

from palitune.data.cache import BATCH, SCHEMA, cached
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

    def __init__(self, folder: Path, part: str) -> None:
        self.folder = folder
        self.part = part
        self.skipped: list[str] = json.loads((folder / "skipped.json").read_text("utf-8"))
        """A sentence for every bad row that was left out."""
        self.left_out: list[str] = json.loads((folder / "left_out.json").read_text("utf-8"))
        """A sentence for every setting of the task by which something was left out."""
        stream = pa.ipc.open_stream(pa.memory_map(str(folder / "examples.arrow")))
        self._batches = list(stream)
        self._count: int = sum(batch.num_rows for batch in self._batches)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        batch, line = divmod(_position(index, len(self)), BATCH)
        columns = self._batches[batch].drop_columns("row").columns
        cells = (column[line].as_py() for column in columns)
        id_, images, width, height, prefix, suffixes, reference, place, *more = cells
        attributes, choices, marked = more
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
        )

    def row(self, index: int) -> Row:
        """Return the row that the task wrote an example of."""
        batch, line = divmod(_position(index, len(self)), BATCH)
        return row_from_json(json.loads(self._batches[batch]["row"][line].as_py()))

    def fingerprint(self) -> str:
        """Digest what the examples say: equal for equal data on any machine, in any folder.

        Everything counts but the images' pixels, for which the file names stand.
        """
        digest = sha256()
        for batch in self._batches:
            for column in (name for name in SCHEMA.names if name not in _WITH_PATHS):
                digest.update(repr(batch.column(column).to_pylist()).encode("utf-8", "replace"))
            for images in batch.column("images").to_pylist():
                digest.update(
                    repr([Path(image).name for image in images]).encode("utf-8", "replace")
                )
        return digest.hexdigest()[:16]

    def __reduce__(self) -> tuple[type["Examples"], tuple[Path, str]]:
        return Examples, (self.folder, self.part)


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

    @property
    def is_answered(self) -> bool:
        """Whether there are references to judge predictions by."""
        return bool(self.examples[0].suffixes)


class Concatenated(Sequence[Example]):
    """Several parts one after the other, each as often as its `repeat` says."""

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
        part, position = self.locate(index)
        return part.examples[position]

    def locate(self, index: int) -> tuple[Part, int]:
        """Return the part that an example belongs to, and its position there."""
        position = _position(index, len(self))
        number = bisect_right(self._ends, position)
        part, start = self._parts[number], self._ends[number - 1] if number else 0
        return part, (position - start) % len(part.examples)


def load(data: Data, task: Task | None, split: str, *, unanswered: bool = False) -> list[Part]:
    """Return the parts of a data set for one split, out of the cache or built into it.

    `task` is None for a mixture, whose parts bring their own; `unanswered` lets a split through
    that has prompts only, as the test sets of benchmarks do. Raises DataError for a fault in the
    data, ValueError where task and data do not go together.
    """
    parts = []
    for pairing in data.pairings(task):
        examples = _examples(pairing, canonical(split), unanswered)
        if skipped := examples.skipped:
            log.warning(
                "%s, %s: bad rows skipped: %d, the first: %s",
                pairing.name, split, len(skipped), skipped[0],
            )  # fmt: skip
        for sentence in examples.left_out:
            log.warning("%s, %s: %s", pairing.name, split, sentence)
        parts.append(
            Part(
                pairing.name,
                pairing.task,
                examples,
                pairing.repeat,
                pairing.source,
                canonical(split),
            )
        )
    return parts


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
