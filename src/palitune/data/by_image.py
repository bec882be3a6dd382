"""The order in which an epoch visits its examples."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence

from torch.utils.data import Sampler

from palitune.data.mixing import MixtureSchedule, interleave_evenly
from palitune.data.training_set import TrainingSet


class GroupByImageSampler(Sampler[int]):
    """Visit the examples shuffled, but so many of one image side by side.

    A batch then holds several prompts of an image, which is encoded once for all of them. Several
    visits to an example in one epoch come into different groups. Of weighted parts every stretch
    holds their shares. The order follows from seed and epoch of the visits alone.
    """

    def __init__(self, training_set: TrainingSet, prompts_per_image: int) -> None:
        self.training_set, self.prompts_per_image = training_set, prompts_per_image
        self._example_keys = [
            (one.images, (one.component, one.id)) for one in training_set.examples
        ]

    def __len__(self) -> int:
        return len(self.training_set)

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.training_set.seed}:{self.training_set.epoch}")
        groups: list[list[int]] = []
        for copies in self._indices_by_image():
            rounds = itertools.zip_longest(*chance.sample(copies, len(copies)))
            for visited in rounds:
                visits = [index for index in visited if index is not None]
                starts = range(0, len(visits), self.prompts_per_image)
                groups += [visits[start : start + self.prompts_per_image] for start in starts]
        chance.shuffle(groups)
        if (proportions := self.training_set.mixture_schedule) is not None:
            groups = interleave_evenly(_groups_by_component(groups, proportions), chance.random())
        return (index for group in groups for index in group)

    def _indices_by_image(self) -> list[list[list[int]]]:
        """Return the visits of the epoch: for every image, for every example."""
        indices: Iterable[int] = range(len(self.training_set))
        if (proportions := self.training_set.mixture_schedule) is not None:
            indices = itertools.chain.from_iterable(
                proportions.indices_by_component(self.training_set.epoch)
            )
        found: dict[tuple[str, ...], dict[tuple[str, str], list[int]]] = {}
        for index in indices:
            images, example = self._example_keys[index % len(self._example_keys)]
            found.setdefault(images, {}).setdefault(example, []).append(index)
        return [list(of_image.values()) for of_image in found.values()]


def _groups_by_component(
    groups: Sequence[list[int]], mixture_schedule: MixtureSchedule
) -> list[list[list[int]]]:
    """Put together the groups that visit the same parts equally often."""
    found: dict[tuple[int, ...], list[list[int]]] = {}
    for group in groups:
        found.setdefault(tuple(sorted(map(mixture_schedule.component_of, group))), []).append(group)
    return [found[parts] for parts in sorted(found)]
