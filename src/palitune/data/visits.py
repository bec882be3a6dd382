"""What each visit of an example trains on: which target, and which view of the image."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.data.augmentation import Augmentation
from palitune.data.proportions import Proportions, place_and_turn
from palitune.data.views import Seen, View, Warp
from palitune.examples import Example
from palitune.tasks import Task

if TYPE_CHECKING:
    from palitune.data.dataset import Concatenated


class Suffixes(Enum):
    """Which of several targets one visit of an example trains on."""

    sample = "sample"
    """One at random."""
    cycle = "cycle"
    """The next of a shuffled list on every visit, so that each is seen equally often; the list is
    shuffled anew after its end. Of ten annotators' answers, equal ones are seen as often as given:
    big_vision's `choice_no_replacement`."""
    majority = "majority"
    """The most frequent one; of several, the one that is listed first."""
    first = "first"
    all = "all"
    """Every one, in one row that shares image and prefix: as exact as a row each, and faster."""


@dataclass(frozen=True)
class Visit:
    """One example, as it is true of a view, with the target that this visit trains on."""

    example: Example
    suffix: str
    views: tuple[View, ...] = ()
    """Of each of its images; empty: all are seen as they are."""
    others: tuple[str, ...] = ()
    """Further targets that it trains on at once."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        return (self.suffix, *self.others)


class Visits:
    """The training set as one epoch sees it; which target and view a visit takes depends on nothing
    else than seed, example and how often it was visited before, so a resumed run sees what the
    interrupted one would have.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        how: Suffixes,
        seed: int,
        tasks: Mapping[str, Task] | None = None,
        proportions: Proportions | None = None,
    ) -> None:
        """`tasks`, by part, may write an example anew on every visit; see `Task.redrawn`.

        `proportions`: which visits an epoch makes where the parts are weighted; else one to each.
        """
        self.examples, self.how, self.seed, self.epoch = examples, how, seed, 0
        self.tasks = tasks or {}
        self.proportions = proportions

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Visit:
        place, turn = self.place(index)
        return self._visit(self.examples[place], place, turn)

    def __iter__(self) -> Iterator[Visit]:
        return (self[index] for index in range(len(self)))

    def place(self, index: int) -> tuple[int, int]:
        """Return which example an index means, and how often it was visited before."""
        return place_and_turn(index, len(self.examples), self.epoch)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def remarks(self, indices: Sequence[int]) -> list[str]:
        """Say how the visits to some examples differ from the examples, a sentence each."""
        return []

    def _redrawn(self, example: Example, place: int, turn: int) -> Example:
        task = self.tasks.get(example.part)
        chance = random.Random(f"redrawn:{self.seed}:{turn}:{place}")
        return example if task is None else task.redrawn(example, chance)

    def _visit(
        self, example: Example, place: int, turn: int, views: tuple[View, ...] = ()
    ) -> Visit:
        example = self._redrawn(example, place, turn)
        if self.how is Suffixes.all:
            return Visit(example, example.suffixes[0], views, example.suffixes[1:])
        return Visit(example, self._choose(example, place, turn), views)

    def _choose(self, example: Example, place: int, turn: int) -> str:
        if self.how is Suffixes.first or len(example.suffixes) == 1:
            return example.suffixes[0]
        if self.how is Suffixes.sample:
            return random.Random(f"{self.seed}:{turn}:{place}").choice(example.suffixes)
        if self.how is Suffixes.majority:
            return Counter(example.suffixes).most_common(1)[0][0]
        order = list(example.suffixes)
        cycle, next_one = divmod(turn, len(order))
        random.Random(f"{self.seed}:{place}:{cycle}").shuffle(order)
        return order[next_one]


class AugmentedVisits(Visits):
    """The training set as an augmentation shows it."""

    def __init__(
        self,
        examples: "Concatenated",
        how: Suffixes,
        seed: int,
        augmentation: Augmentation,
        *,
        by_image: bool = False,
    ) -> None:
        """`by_image`: the prompts of an image share what is drawn; its repeats differ."""
        super().__init__(examples, how, seed, examples.tasks, examples.proportions(seed))
        self.examples: Concatenated = examples
        self.augmentation = augmentation
        self.by_image = by_image

    def __getitem__(self, index: int) -> Visit:
        example, views, _ = self.look(index)
        return self._visit(example, *self.place(index), views)

    def look(self, index: int) -> tuple[Example, tuple[View, ...], Seen]:
        """Return what a visit sees: prompt and targets written anew where anything has moved."""
        place, turn = self.place(index)
        part, position, copy = self.examples.locate(place)
        example, row = part.examples[position], part.examples.row(position)
        whose = str(place)
        if self.by_image:
            whose = f"{copy} of {[Path(image).name for image in example.images]}"
        chance = random.Random(f"view {self.seed}:{turn}:{whose}")
        views, seen = self.augmentation.draw(example, row, part.task, chance)
        if seen.row is not row:
            example = replace(part.task.example(seen.row), part=part.name)
        return example, views, seen

    def remarks(self, indices: Sequence[int]) -> list[str]:
        looks = [self.look(index) for index in indices]
        mirrored = sum(any(view.mirrored for view in views) for _, views, _ in looks)
        windows = sum(any(view.window is not None for view in views) for _, views, _ in looks)
        warped = sum(any(view.warp != Warp() for view in views) for _, views, _ in looks)
        cut = sum(seen.cut for _, _, seen in looks)
        return [
            f"augmentation: of {len(looks)} visits {mirrored} are mirrored, {windows} see the "
            f"image cropped or padded, {warped} see it turned or stretched; "
            f"{cut} objects are cut away"
        ]


def visits_to(
    examples: "Concatenated",
    how: Suffixes,
    seed: int,
    augmentation: Augmentation,
    *,
    by_image: bool = False,
) -> Visits:
    """Return the visits to a training set, augmented where that is asked for.

    `by_image`: the prompts of an image then see it in the same way, so that those of one batch
    share its encoding.
    """
    if not augmentation.draws():
        return Visits(examples, how, seed, examples.tasks, examples.proportions(seed))
    return AugmentedVisits(examples, how, seed, augmentation, by_image=by_image)
