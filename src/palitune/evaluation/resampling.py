"""The numbers of a part in other test sets made of its examples: drawn anew, or some only."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, Protocol

import numpy as np

from palitune.evaluation.bootstrap import MIN_IMAGES, bootstrap_counts
from palitune.metrics.base import FloatArray, ResampleCounts, weighted_mean

MAX_VALUES_PER_ATTRIBUTE = 30
"""Values of one attribute that numbers are given for: the most frequent ones."""

SliceMetrics = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Numbers by part, attribute, value and name; `examples` among the names is how many there are."""


class ResampledMetric(Protocol):
    """What tells its numbers, also in other test sets, as every metric does."""

    def compute(self) -> dict[str, float]: ...

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]: ...


class OutputValidity:
    """How many answers were malformed, and how many were cut off by `task.max_new_tokens`."""

    def __init__(self) -> None:
        self.flags: list[tuple[bool, bool]] = []

    def update(self, malformed: bool, truncated: bool) -> None:
        self.flags.append((malformed, truncated))

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.flags))))
        return {name: float(share[0]) for name, share in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        malformed, unfinished = np.array(self.flags, float).reshape(-1, 2).T
        return {
            "malformed": weighted_mean(counts, malformed),
            "unfinished": weighted_mean(counts, unfinished),
        }


def bootstrap_metrics(
    metrics: Sequence[ResampledMetric], images: Sequence[Hashable], num_resamples: int
) -> dict[str, FloatArray]:
    """Return each number in `resamples` test sets drawn anew; none where images are too few.

    `images` names the image of each example.
    """
    if not num_resamples or len(set(images)) < MIN_IMAGES:
        return {}
    blocks = [
        _weighted_metrics(metrics, counts)
        for counts in bootstrap_counts(images, num_resamples=num_resamples)
    ]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def slice_metrics(
    metrics: Sequence[ResampledMetric], attributes: Sequence[dict[str, str]], *, min_values: int = 1
) -> dict[str, Any]:
    """Return the numbers for every value of every attribute, by attribute and value.

    `attributes` are those of each example; one with fewer than `least` values tells nothing.
    """
    found: dict[str, Any] = {}
    for attribute in dict.fromkeys(name for own in attributes for name in own):
        values = [own.get(attribute) for own in attributes]
        known = Counter(value for value in values if value is not None)
        if len(known) < min_values:
            continue
        shown = [value for value, _ in known.most_common(MAX_VALUES_PER_ATTRIBUTE)]
        counts = np.array([[value == one for value in values] for one in shown], float)
        numbers = _weighted_metrics(metrics, counts)
        found[attribute] = {
            value: {"examples": known[value]} | {n: float(v[row]) for n, v in numbers.items()}
            for row, value in enumerate(shown)
        }
    return found


def _weighted_metrics(
    metrics: Sequence[ResampledMetric], counts: ResampleCounts
) -> dict[str, FloatArray]:
    return {
        name: values for one in metrics for name, values in one.compute_weighted(counts).items()
    }
