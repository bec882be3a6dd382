"""What the confidences of found objects are worth: precision and recall, and how reliable they are.

`precision_recall` is the curve behind COCO's AP50: the mean of a class's precisions is its AP50.
`reliability` sets scores against the share of objects that were right: where the two agree, an
object of score .7 is right in 7 of 10 cases. It counts as `precision@.5` does, so its bins together
give that number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from palitune.metrics.base import FloatArray
from palitune.metrics.objects.coco_matching import (
    IGNORED,
    MATCHED,
    RECALL_THRESHOLDS,
    CocoClassMatches,
    CocoMatches,
)
from palitune.metrics.objects.matching import MATCH_IOU, Overlaps, box_overlaps, match_pairs
from palitune.records import Instance

CALIBRATION_BINS = 10
"""Bins of equal width that scores in [0, 1] are sorted into."""


@dataclass(frozen=True)
class Reliability:
    """Predicted objects of similar score."""

    low: float
    high: float
    """Scores from `low` to below `high`; the last bin holds its `high` too."""
    count: int
    score: float
    """Mean score of the objects; NaN where there are none."""
    precision: float
    """Share of them that are right; NaN where there are none."""


def precision_recall_curve(matches: CocoMatches) -> tuple[FloatArray, FloatArray]:
    """Return COCO's 101 recalls and the precision at each, (101,), IoU .5, mean over classes.

    Precision at a recall is the best at that recall or a higher one, 0 where it is never reached.
    It is NaN throughout where there is nothing to find.
    """
    curves = [
        _class_precision_curve(one, int(wanted))
        for one in matches.classes
        if (wanted := one.num_objects[0].sum())
    ]
    return RECALL_THRESHOLDS, np.mean(curves, axis=0) if curves else np.full(
        len(RECALL_THRESHOLDS), np.nan
    )


def _class_precision_curve(class_matches: CocoClassMatches, num_objects: int) -> FloatArray:
    state = class_matches.status[0, 0]
    right = (state == MATCHED)[state != IGNORED]
    found = np.cumsum(right)
    precision = found / np.arange(1, len(found) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # A recall is reached by the first detection with which so many objects have been found.
    place = np.searchsorted(found / num_objects, RECALL_THRESHOLDS, side="left")
    curve: FloatArray = np.append(best, 0.0)[place]
    return curve


def scored_detections(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps | None = None,
) -> list[tuple[float, bool]]:
    """Return (score, whether right) of each predicted object that has a score.

    One that lies in a crowd of its label is neither right nor wrong and is left out, as in
    `detection_ap.match`; `overlaps` are those of the boxes if None.
    """
    overlaps = box_overlaps(predicted, reference) if overlaps is None else overlaps
    right = set(match_pairs(predicted, reference, overlaps).values())
    return [
        (guess.score, place in right)
        for place, guess in enumerate(predicted)
        if guess.score is not None
        and (place in right or not in_crowd(guess, reference, overlaps[place]))
    ]


def in_crowd(detection: Instance, reference: Sequence[Instance], overlaps: Sequence[float]) -> bool:
    """Tell whether at least half of a predicted object lies in a crowd of its label."""
    return any(
        truth.crowd and truth.label == detection.label and overlap >= MATCH_IOU
        for truth, overlap in zip(reference, overlaps, strict=True)
    )


def reliability_diagram(
    scored: Sequence[tuple[float, bool]], bins: int = CALIBRATION_BINS
) -> list[Reliability]:
    """Sort (score, whether right) into bins of equal width over [0, 1].

    A score outside counts in the bin at that end.
    """
    edges = [place / bins for place in range(bins + 1)]
    sorted_in: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for score, right in scored:
        sorted_in[max(0, min(int(score * bins), bins - 1))].append((score, right))
    return [
        Reliability(
            low, high, len(inside), _mean([s for s, _ in inside]), _mean([r for _, r in inside])
        )
        for (low, high), inside in zip(pairwise(edges), sorted_in, strict=True)
    ]


def calibration_error(bins: Sequence[Reliability]) -> float:
    """Return the mean distance of score and precision over objects; NaN where there are none."""
    total = sum(one.count for one in bins)
    gaps = (one.count * abs(one.score - one.precision) for one in bins if one.count)
    return sum(gaps) / total if total else float("nan")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
