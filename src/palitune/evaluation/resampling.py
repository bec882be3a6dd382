"""Metrics on bootstrap resamples and on slices of a dataset."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from palitune.evaluation.bootstrap import MIN_IMAGES, bootstrap_counts
from palitune.metrics.base import FloatArray, ResampleCounts, ResampledMetric

MAX_VALUES_PER_ATTRIBUTE = 30
"""Most frequent values of an attribute that become slices."""

SliceMetrics = dict[str, dict[str, dict[str, dict[str, float]]]]
"""Metrics by dataset, attribute, value and name; the name `examples` is the number of examples."""


def bootstrap_metrics(
    metrics: Sequence[ResampledMetric], images: Sequence[Hashable], num_resamples: int
) -> dict[str, FloatArray]:
    """Return each metric on resampled test sets; nothing if there are too few images.

    Args:
        metrics: Metrics that were updated with all examples.
        images: Image of each example.
        num_resamples: Number of resampled test sets.

    Returns:
        (num_resamples,) by metric name.
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
    """Return the metrics for every value of every attribute, by attribute and value.

    Args:
        metrics: Metrics that were updated with all examples.
        attributes: Attributes of each example.
        min_values: Skip an attribute with fewer different values.
    """
    slices: dict[str, Any] = {}
    for attribute in dict.fromkeys(name for names in attributes for name in names):
        values = [example_attributes.get(attribute) for example_attributes in attributes]
        frequencies = Counter(value for value in values if value is not None)
        if len(frequencies) < min_values:
            continue
        frequent = [value for value, _ in frequencies.most_common(MAX_VALUES_PER_ATTRIBUTE)]
        counts = np.array([[value == other for other in values] for value in frequent], float)
        metric_values = _weighted_metrics(metrics, counts)
        slices[attribute] = {
            value: {"examples": frequencies[value]}
            | {name: float(column[row]) for name, column in metric_values.items()}
            for row, value in enumerate(frequent)
        }
    return slices


def _weighted_metrics(
    metrics: Sequence[ResampledMetric], counts: ResampleCounts
) -> dict[str, FloatArray]:
    return {
        name: values
        for metric in metrics
        for name, values in metric.compute_weighted(counts).items()
    }
