"""An order of examples in which those of one batch are of about one length."""

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from palitune.data.samplers import WeightedMixtureSampler

if TYPE_CHECKING:
    from palitune.data.training_set import TrainingSet

MEGA_BATCH_MULT = 50


class LengthGroupedSampler:
    """A sampler: shuffles, sorts stretches of fifty batches by length, and shuffles the batches.

    Of weighted parts every stretch holds their shares. The order depends on seed and epoch only, so
    a resumed run goes on in the one it had.
    """

    def __init__(
        self, training_set: "TrainingSet", lengths: Sequence[int], batch_size: int, seed: int
    ) -> None:
        """`lengths` are those of the examples that are visited."""
        self.training_set, self.lengths, self.batch_size, self.seed = (
            training_set,
            lengths,
            batch_size,
            seed,
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.seed}:{self.training_set.epoch}:by length")
        order = list(range(len(self.lengths)))
        if self.training_set.mixture_schedule is not None:
            order = list(
                WeightedMixtureSampler(self.training_set, self.training_set.mixture_schedule)
            )
        else:
            chance.shuffle(order)
        stretch = MEGA_BATCH_MULT * self.batch_size
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
