"""How sure the difference of two runs is: both judged on the same test sets, drawn anew alike.

A number that is the mean of per-example scores is drawn from those that `predictions.jsonl` holds;
any other (average precision, error rates, cumulative IoU) is judged again from answers and
references there. A number that comes out other than the run reported it has no difference.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from palitune.errors import MetricError
from palitune.evaluation.bootstrap import MIN_IMAGES, bootstrap_counts
from palitune.evaluation.resampling import ResampledMetric
from palitune.metrics import METRICS
from palitune.metrics.base import (
    CorpusMeanMetric,
    FloatArray,
    MeanMetric,
    ResampleCounts,
    weighted_mean,
)
from palitune.records import Example, Prediction
from palitune.report.comparison.runs import ExampleKey, RunPart
from palitune.report.run_reader import EvaluatedExample

_TOLERANCE = 1e-9


class _MeanMetrics:
    """Numbers that are means of per-example scores."""

    def __init__(self, scores: Mapping[str, Sequence[float]]) -> None:
        self.scores = scores

    def compute(self) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in self.scores.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        return {name: weighted_mean(counts, values) for name, values in self.scores.items()}


def bootstrap_metrics(
    run_part: RunPart, order: Sequence[ExampleKey], bootstrap_samples: int
) -> dict[str, FloatArray]:
    """Return the numbers of an entry in resampled test sets, (test sets,) by name.

    `order` is that of the examples, the same for all entries that are compared. Empty where the
    images are too few to say anything about others.
    """
    judged = [run_part.examples[key] for key in order]
    images = [one.images for one in judged]
    if not bootstrap_samples or len(set(images)) < MIN_IMAGES:
        return {}
    blocks: dict[str, list[FloatArray]] = {}
    measured = _resampled_metrics(run_part, judged)
    reported = {name: number.after for name, number in run_part.metric_values.items()}
    known = {
        name
        for one in measured
        for name, value in one.compute().items()
        if math.isclose(value, reported.get(name, math.nan), rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    }
    # Images are named by their order, which is the same for every run: their paths may differ.
    for counts in bootstrap_counts(_image_ids(images), num_resamples=bootstrap_samples):
        for one in measured:
            for name, values in one.compute_weighted(counts).items():
                if name in known:
                    blocks.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in blocks.items()}


def _image_ids(images: Sequence[tuple[str, ...]]) -> list[int]:
    numbers: dict[tuple[str, ...], int] = {}
    return [numbers.setdefault(one, len(numbers)) for one in images]


def _resampled_metrics(
    run_part: RunPart, evaluated: Sequence[EvaluatedExample]
) -> list[ResampledMetric]:
    """What tells the numbers of an entry in other test sets made of its examples."""
    scores: dict[str, list[float]] = {
        "malformed": [float(one.after.value is None) for one in evaluated]
    }
    again: list[ResampledMetric] = []
    for name in run_part.settings.get("task.metrics") or evaluated[0].after.scores:
        try:
            metric = METRICS[name]()
        except (KeyError, MetricError):  # of another version, or its program is missing here
            continue
        if isinstance(metric, MeanMetric | CorpusMeanMetric):
            own = [one.after.scores.get(name, math.nan) for one in evaluated]
            scores |= {name: own} if all(map(math.isfinite, own)) else {}
            continue
        for one in evaluated:
            metric.update(
                _to_example(one), Prediction(id=one.id, text=one.after.text, value=one.after.value)
            )
        again.append(metric)
    return [_MeanMetrics(scores), *again]


def _to_example(evaluated: EvaluatedExample) -> Example:
    return Example(
        id=evaluated.id,
        images=evaluated.images,
        size=evaluated.size,
        prefix=evaluated.prefix,
        suffixes=(),
        reference=evaluated.reference,
        location=f"example {evaluated.id}",
        component=evaluated.part,
        attributes=evaluated.attributes,
    )
