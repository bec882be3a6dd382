"""An order of examples in which every part has its share of every stretch."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from palitune.data.proportions import Proportions, spread

if TYPE_CHECKING:
    from palitune.data.visits import Visits


class InProportion:
    """A sampler: shuffles the visits to every part and mixes the parts evenly.

    The order depends on seed and epoch only, so a resumed run goes on in the one it had.
    """

    def __init__(self, visits: "Visits", proportions: Proportions) -> None:
        self.visits, self.proportions = visits, proportions

    def __len__(self) -> int:
        return self.proportions.count

    def __iter__(self) -> Iterator[int]:
        chance = random.Random(f"{self.visits.seed}:{self.visits.epoch}:in proportion")
        by_part = self.proportions.visits(self.visits.epoch)
        for visits in by_part:
            chance.shuffle(visits)
        return iter(spread(by_part, chance.random()))
