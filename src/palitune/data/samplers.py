"""Samplers: the order in which an epoch visits the training set.

An order depends on the seed and the epoch alone, so a resumed run continues in the same order. If
the training set is a weighted mixture, every stretch of an order contains each component in
proportion to its weight.
"""

import itertools
import math
import random
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

from torch.utils.data import Sampler

from palitune.data.training_set import TrainingSet

T = TypeVar("T")

MEGA_BATCH_MULT = 50
INVERSE_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


class WeightedMixtureSampler(Sampler[int]):
    """Shuffle each component of a mixture and interleave the components evenly."""

    def __init__(self, training_set: TrainingSet) -> None:
        self.training_set = training_set

    def __len__(self) -> int:
        return len(self.training_set)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.training_set.seed}:{self.training_set.epoch}:in proportion")
        components = self.training_set.epoch_indices()
        for indices in components:
            rng.shuffle(indices)
        return iter(interleave_evenly(components, rng.random()))


class GroupByImageSampler(Sampler[int]):
    """Shuffle groups of up to `prompts_per_image` examples that share their image.

    A batch then contains several prompts of an image, which is encoded once for all of them. If an
    epoch visits an example several times, the visits are in different groups.
    """

    def __init__(self, training_set: TrainingSet, prompts_per_image: int) -> None:
        self.training_set, self.prompts_per_image = training_set, prompts_per_image
        self._example_keys = [
            ((example.images, example.tile), (example.component, example.id))
            for example in training_set.examples
        ]

    def __len__(self) -> int:
        return len(self.training_set)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.training_set.seed}:{self.training_set.epoch}")
        groups: list[list[int]] = []
        for visits_by_example in self._indices_by_image():
            shuffled = rng.sample(visits_by_example, len(visits_by_example))
            for visits in itertools.zip_longest(*shuffled):
                indices = [index for index in visits if index is not None]
                groups += _split(indices, self.prompts_per_image)
        rng.shuffle(groups)
        if self.training_set.mixture_schedule is not None:
            groups = interleave_evenly(self._groups_by_components(groups), rng.random())
        return itertools.chain.from_iterable(groups)

    def _indices_by_image(self) -> list[list[list[int]]]:
        """Return the sample indices of the epoch, for each image a list per example."""
        by_image: dict[Hashable, dict[tuple[str, str], list[int]]] = {}
        for index in itertools.chain.from_iterable(self.training_set.epoch_indices()):
            images, example = self._example_keys[self.training_set.example_index(index)]
            by_image.setdefault(images, {}).setdefault(example, []).append(index)
        return [list(by_example.values()) for by_example in by_image.values()]

    def _groups_by_components(self, groups: Sequence[list[int]]) -> list[list[list[int]]]:
        """Return lists of groups whose samples come from the same components."""
        result: dict[tuple[int, ...], list[list[int]]] = {}
        for group in groups:
            components = tuple(sorted(map(self.training_set.component_index, group)))
            result.setdefault(components, []).append(group)
        return [result[components] for components in sorted(result)]


class LengthGroupedSampler(Sampler[int]):
    """Shuffle, sort stretches of 50 batches by length, and shuffle the batches.

    Args:
        training_set: The training set.
        lengths: Number of tokens of each of its examples.
        batch_size: Samples per batch, over all processes and accumulation steps.
        seed: Seed of the order.
    """

    def __init__(
        self, training_set: TrainingSet, lengths: Sequence[int], batch_size: int, seed: int
    ) -> None:
        self.training_set, self.lengths = training_set, lengths
        self.batch_size, self.seed = batch_size, seed

    def __len__(self) -> int:
        return len(self.training_set)

    def __iter__(self) -> Iterator[int]:
        rng = random.Random(f"{self.seed}:{self.training_set.epoch}:by length")
        if self.training_set.mixture_schedule is not None:
            order = list(WeightedMixtureSampler(self.training_set))
        else:
            [order] = self.training_set.epoch_indices()
            rng.shuffle(order)
        batches: list[list[int]] = []
        for stretch in _split(order, MEGA_BATCH_MULT * self.batch_size):
            stretch.sort(key=lambda index: self.lengths[self.training_set.example_index(index)])
            stretch_batches = _split(stretch, self.batch_size)
            rng.shuffle(stretch_batches)
            batches += stretch_batches
        # An incomplete batch in the middle would shift the limits of all batches after it.
        batches.sort(key=len, reverse=True)
        return itertools.chain.from_iterable(batches)


def interleave_evenly(groups: Sequence[Sequence[T]], offset: float) -> list[T]:
    """Interleave groups so that each has its share of every stretch and keeps its order.

    Positions are assigned by multiples of the golden ratio. They are evenly spread, also if only
    every n-th position or batch is taken, so processes that share an order each get every group's
    share. `offset` in [0, 1) rotates the pattern.
    """
    import numpy as np

    count = sum(map(len, groups))
    order = ((offset + INVERSE_GOLDEN_RATIO * np.arange(count)) % 1).argsort().tolist()
    mixed = dict(zip(order, itertools.chain.from_iterable(groups), strict=True))
    return [mixed[position] for position in range(count)]


def _split(items: list[T], size: int) -> list[list[T]]:
    """Split a list into lists of `size` items; the last one may be shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]
