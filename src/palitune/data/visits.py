"""Which target each visit of an example trains on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from palitune.examples import Example


class Suffixes(Enum):
    """Which of several targets one visit of an example trains on."""

    sample = "sample"
    """One at random."""
    cycle = "cycle"
    """The next of a shuffled list on every epoch, so that each is seen equally often."""
    first = "first"
    all = "all"
    """Every one, in one row that shares image and prefix: as exact as a row each, and faster."""


@dataclass(frozen=True)
class Visit:
    """One example with the target that this visit trains on."""

    example: Example
    suffix: str
    others: tuple[str, ...] = ()
    """Further targets that it trains on at once."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (self.suffix, *self.others)


class Visits:
    """The training set as one epoch sees it; which target a visit takes depends on nothing else
    than seed, epoch and position, so a resumed run sees what the interrupted one would have seen.
    """

    def __init__(self, examples: Sequence[Example], how: Suffixes, seed: int) -> None:
        self.examples, self.how, self.seed, self.epoch = examples, how, seed, 0

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Visit:
        return self._visit(self.examples[index], index)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _visit(self, example: Example, index: int) -> Visit:
        if self.how is Suffixes.all:
            return Visit(example, example.suffixes[0], example.suffixes[1:])
        return Visit(example, self._choose(example, index))

    def _choose(self, example: Example, index: int) -> str:
        if self.how is Suffixes.first or len(example.suffixes) == 1:
            return example.suffixes[0]
        if self.how is Suffixes.sample:
            return random.Random(f"{self.seed}:{self.epoch}:{index}").choice(example.suffixes)
        order = list(example.suffixes)
        random.Random(f"{self.seed}:{index}").shuffle(order)
        return order[self.epoch % len(order)]
