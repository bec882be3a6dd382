"""Bootstrap confidence intervals (Efron, 1979), resampled by image.

A test set is resampled many times with replacement. The interval is the middle 95 % of the metric's
values on the resampled sets. All examples of one image are drawn together because their answers
are not independent. Two evaluations of the same examples use the same resampled sets, so the
interval of their difference is that of a paired comparison.

The intervals do not cover variation between training seeds. If all examples have the same score,
the interval has zero width.
"""

import math
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from palitune.metrics.base import FloatArray, ResampleCounts

DEFAULT_BOOTSTRAP_SAMPLES = 1000
CONFIDENCE_LEVEL = 0.95
MIN_IMAGES = 10
"""Minimum number of images for an interval."""

_MAX_BLOCK_ENTRIES = 4_000_000  # float64 entries of one block of counts: 32 MB

ConfidenceInterval = tuple[float, float]


def bootstrap_counts(
    groups: Sequence[Hashable], *, num_resamples: int = DEFAULT_BOOTSTRAP_SAMPLES, seed: int = 0
) -> Iterator[ResampleCounts]:
    """Yield how often each example occurs in each resampled test set.

    Args:
        groups: Image of each example. Examples of one image are drawn together.
        num_resamples: Number of resampled test sets.
        seed: The same groups and seed give the same test sets.

    Yields:
        Blocks of counts, (test sets, examples) float64.
    """
    group_ids: dict[Hashable, int] = {}
    group = np.array([group_ids.setdefault(name, len(group_ids)) for name in groups], np.int64)
    rng = np.random.default_rng(seed)
    num_groups = len(group_ids)
    block_size = max(1, _MAX_BLOCK_ENTRIES // max(1, len(groups)))
    for start in range(0, num_resamples, block_size):
        rows = min(block_size, num_resamples - start)
        offsets = np.arange(rows)[:, None] * num_groups
        indices = rng.integers(0, num_groups, (rows, num_groups)) + offsets
        counts = np.bincount(indices.ravel(), minlength=rows * num_groups)
        yield counts.reshape(rows, num_groups)[:, group].astype(np.float64)


def confidence_interval(bootstrap_values: FloatArray) -> ConfidenceInterval:
    """Return (low, high) of the 95 % confidence interval; NaN if no value is defined.

    Args:
        bootstrap_values: A metric on each resampled test set; NaN values are ignored.
    """
    defined = bootstrap_values[~np.isnan(bootstrap_values)]
    if not defined.size:
        return math.nan, math.nan
    low, high = np.quantile(defined, [(1 - CONFIDENCE_LEVEL) / 2, (1 + CONFIDENCE_LEVEL) / 2])
    return float(low), float(high)
