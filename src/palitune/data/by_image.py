"""The order in which an epoch visits its examples."""

import itertools
import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from palitune.data.visits import Visits
from palitune.examples import Example


class ByImage(Sampler[int]):
    """Visit the examples shuffled, but so many of one image side by side.

    A batch then holds several prompts of an image, which is encoded once for all of them. Copies of
    an example (a part that is repeated in an epoch) come into different groups as far as the image
    has other prompts. The order follows from seed and epoch of the visits alone.
    """

    def __init__(self, visits: Visits, side_by_side: int) -> None:
        self.visits, self.side_by_side = visits, side_by_side
        self._of_image = _by_image(visits.examples)

    def __len__(self) -> int:
        return len(self.visits)

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.visits.seed}:{self.visits.epoch}")
        groups: list[list[int]] = []
        for copies in self._of_image:
            rounds = itertools.zip_longest(*chance.sample(copies, len(copies)))
            visits = [index for visited in rounds for index in visited if index is not None]
            starts = range(0, len(visits), self.side_by_side)
            groups += [visits[start : start + self.side_by_side] for start in starts]
        chance.shuffle(groups)
        return (index for group in groups for index in group)


def _by_image(examples: Sequence[Example]) -> list[list[list[int]]]:
    """Return the indices of the examples: for every image, for every example, of its copies."""
    found: dict[tuple[str, ...], dict[tuple[str, str], list[int]]] = {}
    for index in range(len(examples)):
        example = examples[index]
        of_image = found.setdefault(example.images, {})
        of_image.setdefault((example.part, example.id), []).append(index)
    return [list(of_image.values()) for of_image in found.values()]
