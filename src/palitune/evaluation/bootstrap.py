"""How sure a number is: 95 % intervals by the bootstrap, over images drawn anew.

A test set is drawn again and again out of its own images, with replacement; the middle 95 % of the
numbers that come out are the interval. All examples of an image go together, since their answers
are not independent. Two evaluations of the same examples are resampled alike, so that the interval
of their difference is that of pairs, which is narrower than the two apart.
It speaks of the images only: another seed of the training is another matter. Where all examples
score alike (nothing is right, or everything), nothing varies and the interval has no width.
"""

import math
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from palitune.metrics.base import FloatArray, ResampleCounts

DEFAULT_BOOTSTRAP_SAMPLES = 1000
CONFIDENCE_LEVEL = 0.95
MIN_IMAGES = 10
"""Images below which no interval is given: so few say nothing about others."""

_MAX_BLOCK_ENTRIES = 4_000_000  # entries of a table of counts, 32 MB

ConfidenceInterval = tuple[float, float]


def bootstrap_counts(
    groups: Sequence[Hashable], *, num_resamples: int = DEFAULT_BOOTSTRAP_SAMPLES, seed: int = 0
) -> Iterator[ResampleCounts]:
    """Yield how often each example stands in each resampled test set, some test sets at a time.

    `groups` names the image of each example: those of one image are drawn together. The same
    groups and seed give the same test sets. Blocks are (test sets, examples).
    """
    numbers: dict[Hashable, int] = {}
    group = np.array([numbers.setdefault(name, len(numbers)) for name in groups], np.int64)
    random = np.random.default_rng(seed)
    count = len(numbers)
    at_once = max(1, _MAX_BLOCK_ENTRIES // max(1, len(groups)))
    for start in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - start)
        drawn = random.integers(0, count, (rows, count)) + np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        yield times[:, group].astype(np.float64)


def confidence_interval(bootstrap_values: FloatArray) -> ConfidenceInterval:
    """Return (low, high) of the middle 95 % of a number's resampled values; NaN where undefined."""
    defined = bootstrap_values[~np.isnan(bootstrap_values)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return float(low), float(high)


def mean_interval(
    scores: Sequence[float], groups: Sequence[Hashable] | None = None, *, seed: int = 0
) -> ConfidenceInterval:
    """Return the interval of the mean of per-example scores.

    `groups` names the image of each score; None: an image each.
    """
    values = np.asarray(scores, float)
    blocks = bootstrap_counts(groups or range(len(values)), seed=seed)
    return confidence_interval(
        np.concatenate([times @ values / times.sum(axis=1) for times in blocks])
    )


def difference_interval(
    before: Sequence[float],
    after: Sequence[float],
    groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
) -> ConfidenceInterval:
    """Return the interval of the mean of `after` less that of `before`, scores of equal examples.

    Raises ValueError where the two differ in length.
    """
    if len(before) != len(after):
        raise ValueError(
            f"{len(before)} scores before meet {len(after)} after; give both of the same examples"
        )
    gained = np.asarray(after, float) - np.asarray(before, float)
    return mean_interval(gained.tolist(), groups, seed=seed)
