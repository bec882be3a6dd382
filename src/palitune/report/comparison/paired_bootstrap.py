"""Paired bootstrap: metrics of several runs on the same resampled test sets.

A metric that is the mean of per-example scores is computed from the scores in `predictions.jsonl`,
any other one (average precision, error rates, cumulative IoU) from the predictions and references
there. A metric that does not reproduce the reported value has no difference.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from palitune.errors import MetricError
from palitune.evaluation.bootstrap import MIN_IMAGES, bootstrap_counts
from palitune.metrics import METRICS
from palitune.metrics.base import (
    CorpusMeanMetric,
    FloatArray,
    MeanMetric,
    ResampleCounts,
    ResampledMetric,
    weighted_mean,
)
from palitune.report.comparison.runs import ExampleKey, RunPart
from palitune.report.run_reader import EvaluatedExample

_TOLERANCE = 1e-9


class _MeanMetrics(ResampledMetric):
    """Metrics that are means of the per-example scores in a file of predictions."""

    def __init__(self, scores: Mapping[str, Sequence[float]]) -> None:
        self.scores = scores

    @property
    def num_examples(self) -> int:
        return len(next(iter(self.scores.values())))

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        return {name: weighted_mean(counts, values) for name, values in self.scores.items()}


def bootstrap_metrics(
    run_part: RunPart, order: Sequence[ExampleKey], bootstrap_samples: int
) -> dict[str, FloatArray]:
    """Compute the metrics of a run part on bootstrap samples.

    Args:
        run_part: The run part.
        order: Order of the examples, the same for all run parts that are compared.
        bootstrap_samples: Number of bootstrap samples.

    Returns:
        Values of shape (bootstrap samples,) by metric name; empty if there are too few images.
    """
    examples = [run_part.examples[key] for key in order]
    images = [example.images for example in examples]
    if not bootstrap_samples or len(set(images)) < MIN_IMAGES:
        return {}
    blocks: dict[str, list[FloatArray]] = {}
    metrics = _resampled_metrics(run_part, examples)
    reported = {name: metric.after for name, metric in run_part.metric_values.items()}
    reproduced = {
        name
        for metric in metrics
        for name, value in metric.compute().items()
        if math.isclose(value, reported.get(name, math.nan), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    }
    # Image ids are positions, since the paths of the same images may differ between runs.
    for counts in bootstrap_counts(_image_ids(images), num_resamples=bootstrap_samples):
        for metric in metrics:
            for name, values in metric.compute_weighted(counts).items():
                if name in reproduced:
                    blocks.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in blocks.items()}


def _image_ids(images: Sequence[tuple[str, ...]]) -> list[int]:
    ids: dict[tuple[str, ...], int] = {}
    return [ids.setdefault(paths, len(ids)) for paths in images]


def _resampled_metrics(
    run_part: RunPart, evaluated: Sequence[EvaluatedExample]
) -> list[ResampledMetric]:
    """Return metrics that can be computed on resampled examples."""
    scores: dict[str, list[float]] = {
        "malformed": [float(example.after.value is None) for example in evaluated]
    }
    recomputed: list[ResampledMetric] = []
    for name in run_part.settings.get("task.metrics") or evaluated[0].after.scores:
        try:
            metric = METRICS[name]()
        except (KeyError, MetricError):  # of another version, or a program is missing here
            continue
        if isinstance(metric, MeanMetric | CorpusMeanMetric):
            values = [example.after.scores.get(name, math.nan) for example in evaluated]
            scores |= {name: values} if all(map(math.isfinite, values)) else {}
            continue
        for example in evaluated:
            metric.update(*example.to_records(example.after))
        recomputed.append(metric)
    return [_MeanMetrics(scores), *recomputed]
