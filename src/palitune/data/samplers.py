"""An order of examples in which every part has its share of every stretch."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from palitune.data.mixing import MixtureSchedule, interleave_evenly

if TYPE_CHECKING:
    from palitune.data.training_set import TrainingSet


class WeightedMixtureSampler:
    """A sampler: shuffles the visits to every part and mixes the parts evenly.

    The order depends on seed and epoch only, so a resumed run goes on in the one it had.
    """

    def __init__(self, training_set: "TrainingSet", mixture_schedule: MixtureSchedule) -> None:
        self.training_set, self.mixture_schedule = training_set, mixture_schedule

    def __len__(self) -> int:
        return self.mixture_schedule.num_examples

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.training_set.seed}:{self.training_set.epoch}:in proportion")
        by_part = self.mixture_schedule.indices_by_component(self.training_set.epoch)
        for visits in by_part:
            chance.shuffle(visits)
        return iter(interleave_evenly(by_part, chance.random()))
