"""The numbers of a part in other test sets made of its examples: drawn anew, or some only."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np

from palitune.evaluation.intervals import FEWEST, resample
from palitune.metrics.base import Counts, Floats, weighted_mean

MOST_VALUES = 30
"""Values of one attribute that numbers are given for: the most frequent ones."""

Slices = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Numbers by part, attribute, value and name; `examples` among the names is how many there are."""


class Measured(Protocol):
    """What tells its numbers, also in other test sets, as every metric does."""

    def compute(self) -> dict[str, float]: ...

    def weighted(self, counts: Counts) -> dict[str, Floats]: ...


class Shares:
    """How many answers were malformed, and how many were cut off by `task.max_new_tokens`."""

    def __init__(self) -> None:
        self.flags: list[tuple[bool, bool]] = []

    def update(self, malformed: bool, unfinished: bool) -> None:
        self.flags.append((malformed, unfinished))

    def compute(self) -> dict[str, float]:
        numbers = self.weighted(np.ones((1, len(self.flags))))
        return {name: float(share[0]) for name, share in numbers.items()}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        malformed, unfinished = np.array(self.flags, float).reshape(-1, 2).T
        return {
            "malformed": weighted_mean(counts, malformed),
            "unfinished": weighted_mean(counts, unfinished),
        }


def resampled(
    measured: Sequence[Measured], images: Sequence[Hashable], resamples: int
) -> dict[str, Floats]:
    """Return each number in `resamples` test sets drawn anew; none where images are too few.

    `images` names the image of each example.
    """
    if not resamples or len(set(images)) < FEWEST:
        return {}
    blocks = [_numbers(measured, counts) for counts in resample(images, resamples=resamples)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def sliced(
    measured: Sequence[Measured], attributes: Sequence[dict[str, str]], *, least: int = 1
) -> dict[str, Any]:
    """Return the numbers for every value of every attribute, by attribute and value.

    `attributes` are those of each example; one with fewer than `least` values tells nothing.
    """
    found: dict[str, Any] = {}
    for attribute in dict.fromkeys(name for own in attributes for name in own):
        values = [own.get(attribute) for own in attributes]
        known = Counter(value for value in values if value is not None)
        if len(known) < least:
            continue
        shown = [value for value, _ in known.most_common(MOST_VALUES)]
        counts = np.array([[value == one for value in values] for one in shown], float)
        numbers = _numbers(measured, counts)
        found[attribute] = {
            value: {"examples": known[value]} | {n: float(v[row]) for n, v in numbers.items()}
            for row, value in enumerate(shown)
        }
    return found


def _numbers(measured: Sequence[Measured], counts: Counts) -> dict[str, Floats]:
    return {name: values for one in measured for name, values in one.weighted(counts).items()}
