"""An order of examples in which those of one batch are of about one length."""

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from palitune.data.in_proportion import InProportion

if TYPE_CHECKING:
    from palitune.data.visits import Visits

BATCHES_SORTED_AT_ONCE = 50


class ByLength:
    """A sampler: shuffles, sorts stretches of fifty batches by length, and shuffles the batches.

    Of weighted parts every stretch holds their shares. The order depends on seed and epoch only, so
    a resumed run goes on in the one it had.
    """

    def __init__(
        self, visits: "Visits", lengths: Sequence[int], batch_size: int, seed: int
    ) -> None:
        """`lengths` are those of the examples that are visited."""
        self.visits, self.lengths, self.batch_size, self.seed = visits, lengths, batch_size, seed

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.seed}:{self.visits.epoch}:by length")
        order = list(range(len(self.lengths)))
        if self.visits.proportions is not None:
            order = list(InProportion(self.visits, self.visits.proportions))
        else:
            chance.shuffle(order)
        stretch = BATCHES_SORTED_AT_ONCE * self.batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), stretch):
            by_length = sorted(order[start : start + stretch], key=self._length)
            sorted_at_once = [
                by_length[first : first + self.batch_size]
                for first in range(0, len(by_length), self.batch_size)
            ]
            chance.shuffle(sorted_at_once)
            batches += sorted_at_once
        # An incomplete batch in the middle would shift all that follow it against the loader's.
        batches.sort(key=len, reverse=True)
        return (index for batch in batches for index in batch)

    def _length(self, index: int) -> int:
        return self.lengths[index % len(self.lengths)]
