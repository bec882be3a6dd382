"""The prompts of a whole run in the order in which they are trained on.

The order depends on the data and the seed only, and that of a longer run begins with it, so that an
interrupted run finds its place by the number of the step.
"""

import random
from bisect import bisect_right
from collections.abc import Iterator

from palitune.data.samplers import WeightedMixtureSampler
from palitune.data.training_set import TrainingSample, TrainingSet


class PromptOrder:
    """Epoch after epoch of visits."""

    def __init__(self, training_set: TrainingSet, num_prompts: int) -> None:
        """`count`: how many prompts there are in the run."""
        self.training_set = training_set
        self._epoch_starts: list[int] = []
        """Where each epoch begins."""
        self._indices: list[int] = []
        while len(self._indices) < num_prompts:
            self._epoch_starts.append(len(self._indices))
            self._indices += _epoch_indices(training_set, len(self._epoch_starts) - 1)
        del self._indices[num_prompts:]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> TrainingSample:
        self.training_set.set_epoch(bisect_right(self._epoch_starts, index) - 1)
        return self.training_set[self._indices[index]]

    def __iter__(self) -> Iterator[TrainingSample]:
        return (self[place] for place in range(len(self)))


def _epoch_indices(training_set: TrainingSet, epoch: int) -> list[int]:
    """The order of the visits of one epoch."""
    training_set.set_epoch(epoch)
    if training_set.mixture_schedule:
        return list(WeightedMixtureSampler(training_set))
    return shuffled_indices(len(training_set), training_set.seed, epoch)


def shuffled_indices(size: int, seed: int, epoch: int) -> list[int]:
    """The numbers below `count`, in an order of their own in every epoch."""
    return random.Random(f"prompts:{seed}:{epoch}").sample(range(size), size)
