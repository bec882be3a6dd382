"""Bootstrap confidence intervals of a mean and of a paired difference of means."""

from collections.abc import Hashable, Sequence

import numpy as np

from palitune.evaluation.bootstrap import (
    ConfidenceInterval,
    bootstrap_counts,
    confidence_interval,
)


def mean_interval(
    scores: Sequence[float], groups: Sequence[Hashable] | None = None
) -> ConfidenceInterval:
    """Return the interval of the mean score; `groups` is the image of each score."""
    values = np.asarray(scores, float)
    blocks = bootstrap_counts(groups or range(len(values)))
    return confidence_interval(
        np.concatenate([counts @ values / counts.sum(axis=1) for counts in blocks])
    )


def difference_interval(before: Sequence[float], after: Sequence[float]) -> ConfidenceInterval:
    """Return the interval of the mean of `after` minus that of `before`, for the same examples."""
    return mean_interval([b - a for a, b in zip(before, after, strict=True)])
