"""Prompts of a whole run in training order.

The order depends only on the data and the seed, and a longer run starts with the order of a shorter
one, so that an interrupted run can be resumed by the number of its step.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator

from palitune.data.samplers import WeightedMixtureSampler
from palitune.data.training_set import TrainingSample, TrainingSet


class PromptOrder:
    """Training samples of successive epochs, `num_prompts` in total."""

    def __init__(self, training_set: TrainingSet, num_prompts: int) -> None:
        self.training_set = training_set
        self._epoch_starts: list[int] = []
        """Position of the first prompt of each epoch."""
        self._indices: list[int] = []
        while len(self._indices) < num_prompts:
            self._epoch_starts.append(len(self._indices))
            self._indices += _epoch_indices(training_set, len(self._epoch_starts) - 1)
        del self._indices[num_prompts:]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> TrainingSample:
        """Return a sample with the suffix and the augmentation of its epoch."""
        self.training_set.set_epoch(bisect_right(self._epoch_starts, index) - 1)
        return self.training_set[self._indices[index]]

    def __iter__(self) -> Iterator[TrainingSample]:
        return (self[index] for index in range(len(self)))


def _epoch_indices(training_set: TrainingSet, epoch: int) -> list[int]:
    """Return the indices of the samples of one epoch in training order."""
    training_set.set_epoch(epoch)
    if training_set.mixture_schedule:
        return list(WeightedMixtureSampler(training_set))
    return shuffled_indices(len(training_set), training_set.seed, epoch)


def shuffled_indices(size: int, seed: int, epoch: int) -> list[int]:
    """Return a permutation of the numbers below `size`, another one in every epoch."""
    return random.Random(f"prompts:{seed}:{epoch}").sample(range(size), size)
