"""Which target each visit of an example trains on."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from palitune.examples import Example
from palitune.tasks import Task


class Suffixes(Enum):
    """Which of several targets one visit of an example trains on."""

    sample = "sample"
    """One at random."""
    cycle = "cycle"
    """The next of a shuffled list on every epoch, so that each is seen equally often; the list is
    shuffled anew after its end. Of ten annotators' answers, equal ones are seen as often as given:
    big_vision's `choice_no_replacement`."""
    majority = "majority"
    """The most frequent one; of several, the one that is listed first."""
    first = "first"


@dataclass(frozen=True)
class Visit:
    """One example with the target that this visit trains on."""

    example: Example
    suffix: str


class Visits:
    """The training set as one epoch sees it; which target a visit takes depends on nothing else
    than seed, epoch and position, so a resumed run sees what the interrupted one would have seen.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        how: Suffixes,
        seed: int,
        tasks: Mapping[str, Task] | None = None,
    ) -> None:
        """`tasks`, by part, may write an example anew on every visit; see `Task.redrawn`."""
        self.examples, self.how, self.seed, self.epoch = examples, how, seed, 0
        self.tasks = tasks or {}

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Visit:
        example = self._redrawn(self.examples[index], index)
        return Visit(example, self._choose(example, index))

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _redrawn(self, example: Example, index: int) -> Example:
        task = self.tasks.get(example.part)
        chance = random.Random(f"redrawn:{self.seed}:{self.epoch}:{index}")
        return example if task is None else task.redrawn(example, chance)

    def _choose(self, example: Example, index: int) -> str:
        if self.how is Suffixes.first or len(example.suffixes) == 1:
            return example.suffixes[0]
        if self.how is Suffixes.sample:
            return random.Random(f"{self.seed}:{self.epoch}:{index}").choice(example.suffixes)
        if self.how is Suffixes.majority:
            return Counter(example.suffixes).most_common(1)[0][0]
        order = list(example.suffixes)
        cycle, turn = divmod(self.epoch, len(order))
        random.Random(f"{self.seed}:{index}:{cycle}").shuffle(order)
        return order[turn]
