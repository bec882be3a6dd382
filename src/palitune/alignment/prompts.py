"""The prompts of a whole run in the order in which they are trained on.

The order depends on the data and the seed only, and that of a longer run begins with it, so that an
interrupted run finds its place by the number of the step.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator

from palitune.data.in_proportion import InProportion
from palitune.data.visits import Visit, Visits


class Prompts:
    """Epoch after epoch of visits."""

    def __init__(self, visits: Visits, count: int) -> None:
        """`count`: how many prompts there are in the run."""
        self.visits = visits
        self._starts: list[int] = []
        """Where each epoch begins."""
        self._order: list[int] = []
        while len(self._order) < count:
            self._starts.append(len(self._order))
            self._order += _epoch(visits, len(self._starts) - 1)
        del self._order[count:]

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: int) -> Visit:
        self.visits.set_epoch(bisect_right(self._starts, place) - 1)
        return self.visits[self._order[place]]

    def __iter__(self) -> Iterator[Visit]:
        return (self[place] for place in range(len(self)))


def _epoch(visits: Visits, epoch: int) -> list[int]:
    """The order of the visits of one epoch."""
    visits.set_epoch(epoch)
    if visits.proportions:
        return list(InProportion(visits, visits.proportions))
    return shuffled(len(visits), visits.seed, epoch)


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """The numbers below `count`, in an order of their own in every epoch."""
    return random.Random(f"prompts:{seed}:{epoch}").sample(range(count), count)
