"""Weighted parts: which examples an epoch visits, and an order that keeps the shares throughout."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from random import Random
from typing import TypeVar

T = TypeVar("T")

INVERSE_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


class MixtureSchedule:
    """How the visits of an epoch are dealt to parts by their weights.

    An epoch has as many visits as the parts have examples together (big_vision's mixtures count
    alike). A part goes through its examples in an order of its own, over and over and on into the
    next epoch: none is visited again before all of them have been, however many visits the part has
    in an epoch. Over any number of epochs a part has its share to within one visit.

    A visit is told by an index: that of the example among all of them, plus their number for this
    and every earlier visit to it. See `place_and_turn`.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], seed: int) -> None:
        self.sizes = sizes
        self.num_examples = sum(sizes)
        ends = list(accumulate(weights))
        self._bounds = [0.0, *(end / ends[-1] for end in ends)]
        self._starts = [0, *accumulate(sizes)]
        self._orders = [
            Random(f"{seed}:order of part {part}").sample(range(size), size)
            for part, size in enumerate(sizes)
        ]

    def indices_by_component(self, epoch: int) -> list[list[int]]:
        """Return the visits to every part in an epoch."""
        return [
            [self._sample_index(part, number) for number in range(earlier, later)]
            for part, (earlier, later) in enumerate(
                zip(self._counts_before(epoch), self._counts_before(epoch + 1), strict=True)
            )
        ]

    def component_of(self, index: int) -> int:
        """Return the number of the part that a visit goes to."""
        return bisect_right(self._starts, index % self.num_examples) - 1

    def _counts_before(self, epoch: int) -> list[int]:
        """Count the visits to every part before an epoch."""
        ends = [round(bound * epoch * self.num_examples) for bound in self._bounds]
        return [end - start for start, end in pairwise(ends)]

    def _sample_index(self, component: int, position: int) -> int:
        turn, place = divmod(position, self.sizes[component])
        return (
            self._starts[component]
            + self._orders[component][place]
            + self.num_examples * (turn + 1)
        )


def decode_sample_index(index: int, num_examples: int, epoch: int) -> tuple[int, int]:
    """Return which of `count` examples an index means, and how often it was visited before.

    An index below `count` is the one visit to its example in this epoch.
    """
    visits, place = divmod(index, num_examples)
    return place, visits - 1 if visits else epoch


def interleave_evenly(groups: Sequence[Sequence[T]], offset: float) -> list[T]:
    """Mix things so that every kind has its share of every stretch; in it they keep their order.

    Places are dealt out by multiples of the golden ratio, which are spread evenly, and so are those
    of every other place or batch: processes that share an order each have their share of the kinds,
    too. `start` in [0, 1) turns the pattern.
    """
    import numpy as np

    count = sum(map(len, groups))
    order = ((offset + INVERSE_GOLDEN_RATIO * np.arange(count)) % 1).argsort().tolist()
    mixed = dict(zip(order, chain.from_iterable(groups), strict=True))
    return [mixed[place] for place in range(count)]
