"""The order in which an epoch visits its examples."""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence

from torch.utils.data import Sampler

from palitune.data.proportions import Proportions, spread
from palitune.data.visits import Visits


class ByImage(Sampler[int]):
    """Visit the examples shuffled, but so many of one image side by side.

    A batch then holds several prompts of an image, which is encoded once for all of them. Several
    visits to an example in one epoch come into different groups. Of weighted parts every stretch
    holds their shares. The order follows from seed and epoch of the visits alone.
    """

    def __init__(self, visits: Visits, side_by_side: int) -> None:
        self.visits, self.side_by_side = visits, side_by_side
        self._names = [(one.images, (one.part, one.id)) for one in visits.examples]

    def __len__(self) -> int:
        return len(self.visits)

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.visits.seed}:{self.visits.epoch}")
        groups: list[list[int]] = []
        for copies in self._of_images():
            rounds = itertools.zip_longest(*chance.sample(copies, len(copies)))
            for visited in rounds:
                visits = [index for index in visited if index is not None]
                starts = range(0, len(visits), self.side_by_side)
                groups += [visits[start : start + self.side_by_side] for start in starts]
        chance.shuffle(groups)
        if (proportions := self.visits.proportions) is not None:
            groups = spread(_by_parts(groups, proportions), chance.random())
        return (index for group in groups for index in group)

    def _of_images(self) -> list[list[list[int]]]:
        """Return the visits of the epoch: for every image, for every example."""
        indices: Iterable[int] = range(len(self.visits))
        if (proportions := self.visits.proportions) is not None:
            indices = itertools.chain.from_iterable(proportions.visits(self.visits.epoch))
        found: dict[tuple[str, ...], dict[tuple[str, str], list[int]]] = {}
        for index in indices:
            images, example = self._names[index % len(self._names)]
            found.setdefault(images, {}).setdefault(example, []).append(index)
        return [list(of_image.values()) for of_image in found.values()]


def _by_parts(groups: Sequence[list[int]], proportions: Proportions) -> list[list[list[int]]]:
    """Put together the groups that visit the same parts equally often."""
    found: dict[tuple[int, ...], list[list[int]]] = {}
    for group in groups:
        found.setdefault(tuple(sorted(map(proportions.part, group))), []).append(group)
    return [found[parts] for parts in sorted(found)]
