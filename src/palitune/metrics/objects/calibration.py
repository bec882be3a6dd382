"""Precision-recall curves and calibration of detection scores.

The mean of a class's precision-recall curve is its COCO AP50. The reliability diagram compares
scores with the share of correct objects: with calibrated scores, 7 of 10 objects of score .7 are
correct. It uses the matches of `precision@.5`, so the total over its bins gives that value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from palitune.metrics.base import FloatArray, mean
from palitune.metrics.objects.average_precision import (
    IGNORED,
    MATCHED,
    RECALL_THRESHOLDS,
    CocoClassMatches,
)
from palitune.metrics.objects.coco_matching import CocoMatches
from palitune.metrics.objects.matching import (
    Overlaps,
    box_overlaps,
    false_positives,
    match_pairs,
)
from palitune.records import Instance

CALIBRATION_BINS = 10
"""Number of bins of equal width over [0, 1]."""


@dataclass(frozen=True)
class Reliability:
    """Predicted objects of similar score."""

    low: float
    high: float
    """Scores from `low` to below `high`; the last bin includes its `high`."""
    count: int
    score: float
    """Mean score of the objects; NaN without objects."""
    precision: float
    """Share of correct objects; NaN without objects."""


def precision_recall_curve(matches: CocoMatches) -> tuple[FloatArray, FloatArray]:
    """Return COCO's 101 recalls and the precision at each, (101,), IoU .5, mean over classes.

    The precision at a recall is the highest at that or a larger recall, and 0 at recalls that are
    not reached. It is NaN throughout without reference objects.
    """
    curves = [
        _class_precision_curve(class_matches, int(num_objects))
        for class_matches in matches.classes
        if (num_objects := class_matches.num_objects[0].sum())
    ]
    if not curves:
        return RECALL_THRESHOLDS, np.full(len(RECALL_THRESHOLDS), np.nan)
    return RECALL_THRESHOLDS, np.mean(curves, axis=0)


def _class_precision_curve(class_matches: CocoClassMatches, num_objects: int) -> FloatArray:
    status = class_matches.status[0, 0]
    is_correct = (status == MATCHED)[status != IGNORED]
    num_correct = np.cumsum(is_correct)
    precision = num_correct / np.arange(1, len(num_correct) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # The first detection at which the recall is reached.
    rank = np.searchsorted(num_correct / num_objects, RECALL_THRESHOLDS, side="left")
    curve: FloatArray = np.append(envelope, 0.0)[rank]
    return curve


def scored_detections(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps | None = None,
) -> list[tuple[float, bool]]:
    """Return (score, whether correct) of each predicted object that has a score.

    Predictions inside a crowd of their label are left out, as in `matching.count_matches`;
    `overlaps` default to those of the boxes.
    """
    overlaps = box_overlaps(predicted, reference) if overlaps is None else overlaps
    matches = match_pairs(predicted, reference, overlaps)
    correct = set(matches.values())
    counted = correct | set(false_positives(predicted, reference, overlaps, matches))
    return [
        (prediction.score, index in correct)
        for index, prediction in enumerate(predicted)
        if prediction.score is not None and index in counted
    ]


def reliability_diagram(
    scored: Sequence[tuple[float, bool]], bins: int = CALIBRATION_BINS
) -> list[Reliability]:
    """Sort (score, whether correct) into bins of equal width over [0, 1].

    A score outside counts in the bin at that end.
    """
    edges = [index / bins for index in range(bins + 1)]
    members: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for score, correct in scored:
        members[max(0, min(int(score * bins), bins - 1))].append((score, correct))
    return [
        Reliability(
            low,
            high,
            len(inside),
            mean([score for score, _ in inside]),
            mean([correct for _, correct in inside]),
        )
        for (low, high), inside in zip(pairwise(edges), members, strict=True)
    ]


def calibration_error(bins: Sequence[Reliability]) -> float:
    """Return the expected calibration error: mean distance of score and precision over objects."""
    total = sum(b.count for b in bins)
    gaps = (b.count * abs(b.score - b.precision) for b in bins if b.count)
    return sum(gaps) / total if total else float("nan")
