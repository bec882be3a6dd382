"""Examples on disk, memory-mapped; the parts of a run, and the training set out of them."""

import json
import logging
import operator
import shutil
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import overload

import pyarrow as pa

from palitune.data.cache import BATCH, cached
from palitune.data.sources.base import Data, Pairing
from palitune.data.sources.lookup import canonical
from palitune.examples import Example, value_from_json
from palitune.tasks import Task

log = logging.getLogger(__name__)


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
        batch, row = divmod(_position(index, len(self)), BATCH)
        cells = (column[row].as_py() for column in self._batches[batch].columns)
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


class Concatenated(Sequence[Example]):
    """Several parts one after the other, each as often as its `repeat` says."""

    def __init__(self, examples: list[Examples], repeats: list[int]) -> None:
        self._examples = examples
        counts = (len(part) * repeat for part, repeat in zip(examples, repeats, strict=True))
        self._ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = _position(index, len(self))
        part = bisect_right(self._ends, position)
        examples = self._examples[part]
        return examples[(position - (self._ends[part - 1] if part else 0)) % len(examples)]


def load(data: Data, task: Task | None, split: str) -> list[Part]:
    """Return the parts of a data set for one split, out of the cache or built into it.

    `task` is None for a mixture, whose parts bring their own. Raises DataError for a fault in the
    data, ValueError where task and data do not go together.
    """
    parts = []
    for pairing in data.pairings(task):
        examples = _examples(pairing, canonical(split))
        if skipped := examples.skipped:
            log.warning(
                "%s, %s: bad rows skipped: %d, the first: %s",
                pairing.name, split, len(skipped), skipped[0],
            )  # fmt: skip
        for sentence in examples.left_out:
            log.warning("%s, %s: %s", pairing.name, split, sentence)
        parts.append(Part(pairing.name, pairing.task, examples, pairing.repeat))
    return parts


def concatenate(parts: list[Part]) -> Sequence[Example]:
    """Return the training set: the parts one after the other, repeated as they say."""
    return Concatenated([part.examples for part in parts], [part.repeat for part in parts])


def _examples(pairing: Pairing, split: str) -> Examples:
    folder = cached(pairing.source, pairing.task, split)
    examples = Examples(folder, pairing.name)
    if all(Path(image).exists() for image in examples[0].images):
        return examples
    # The images have moved since: find them anew, or say which row lacks its image.
    shutil.rmtree(folder, ignore_errors=True)
    return Examples(cached(pairing.source, pairing.task, split), pairing.name)


def _position(index: int, count: int) -> int:
    position = operator.index(index)
    if not -count <= position < count:
        raise IndexError(f"example {position} of {count}")
    return position % count
