"""Error types and thresholds of a scored data set, as plain values for `metrics.json`."""

from collections.abc import Sequence
from typing import Any

from palitune.metrics.base import Metric
from palitune.metrics.objects.detection import CocoMetric
from palitune.metrics.objects.quality.error_types import error_costs
from palitune.metrics.objects.quality.score_thresholds import score_thresholds
from palitune.records import Instance, Prediction


def error_summary(metrics: Sequence[Metric]) -> dict[str, Any] | None:
    """Return the errors of each type and their cost; None without an object metric or objects."""
    metric = _object_metric(metrics)
    costs = None if metric is None else error_costs(metric.examples, metric.iou_type)
    return None if costs is None else costs.to_json()


def threshold_summary(
    metrics: Sequence[Metric], predictions: Sequence[Prediction]
) -> dict[str, Any] | None:
    """Return the thresholds of best F1; None without an object metric or without scores.

    Args:
        metrics: Metrics that were updated with all examples.
        predictions: The predictions.
    """
    metric = _object_metric(metrics)
    if metric is None or not any(_has_score(prediction) for prediction in predictions):
        return None
    return score_thresholds(metric.examples, metric.iou_type)


def _object_metric(metrics: Sequence[Metric]) -> CocoMetric | None:
    """Return the metric of masks, or that of boxes; None if there is neither."""
    candidates = [metric for metric in metrics if isinstance(metric, CocoMetric)]
    return min(candidates, key=lambda metric: metric.iou_type != "segm", default=None)


def _has_score(prediction: Prediction) -> bool:
    return any(
        isinstance(item, Instance) and item.score is not None for item in prediction.value or ()
    )
