"""COCO's average precision and recall of one class on resampled test sets.

The rules are those of pycocotools' `COCOeval`. An image that occurs twice in a test set counts
twice at its rank.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from palitune.metrics.base import FloatArray, ResampleCounts, ratio

STAT_NAMES = (
    "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl",
)  # fmt: skip
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_THRESHOLDS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))
"""All, small, medium, large; square pixels, both ends included."""
MAX_DETECTIONS = (1, 10, 100)
"""Maximum detections per image and class, the most confident ones."""

UNMATCHED, MATCHED, IGNORED = 0, 1, 2
StatusArray = npt.NDArray[np.int8]


@dataclass(frozen=True)
class CocoClassMatches:
    """Detections of one class over all images by descending score, and its number of objects."""

    image: npt.NDArray[np.int64]
    """(detections,)"""
    rank: npt.NDArray[np.int64]
    """(detections,) rank within the image, from 0."""
    status: StatusArray
    """(areas, thresholds, detections) UNMATCHED, MATCHED or IGNORED."""
    num_objects: FloatArray
    """(areas, images) objects that count."""


def class_stats(matches: CocoClassMatches, counts: ResampleCounts) -> dict[str, FloatArray]:
    """Return the numbers of one class, (test sets,) each, NaN for a set without objects of it."""
    weights = counts[:, matches.image]
    ap = np.full((len(AREA_RANGES), len(IOU_THRESHOLDS), len(counts)), np.nan)
    recall = {}
    for area in range(len(AREA_RANGES)):
        num_objects = counts @ matches.num_objects[area]
        for limit in MAX_DETECTIONS if area == 0 else MAX_DETECTIONS[-1:]:
            is_match = (matches.status[area] == MATCHED) & (matches.rank < limit)
            num_matches = (weights @ is_match.T.astype(float)).mean(axis=1)
            recall[area, limit] = ratio(num_matches, num_objects)
        for threshold in range(len(IOU_THRESHOLDS)):
            ap[area, threshold] = _average_precision(
                weights, matches.status[area, threshold], num_objects
            )
    mean = ap.mean(axis=1)
    values = [mean[0], ap[0, 0], ap[0, 5], *mean[1:]]
    values += [recall[0, limit] for limit in MAX_DETECTIONS]
    values += [recall[area, MAX_DETECTIONS[-1]] for area in (1, 2, 3)]
    return dict(zip(STAT_NAMES, values, strict=True))


def _average_precision(
    weights: ResampleCounts, status: npt.NDArray[np.int8], num_objects: FloatArray
) -> FloatArray:
    """Return the mean of the precisions at 101 recalls for each test set, (test sets,).

    Only matched detections are evaluated, because precision falls between two of them.
    """
    matched = np.flatnonzero(status == MATCHED)
    if not matched.size:
        return np.where(num_objects > 0, 0.0, np.nan)
    num_correct = np.cumsum(weights[:, matched], axis=1)
    num_counted = np.cumsum(weights * (status != IGNORED), axis=1)[:, matched]
    precision = ratio(num_correct, num_counted)
    np.nan_to_num(precision, copy=False)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = ratio(num_correct, num_objects[:, None])
    num_reached = np.searchsorted(RECALL_THRESHOLDS, recall, side="right")
    steps = np.diff(num_reached, axis=1, prepend=0)
    average = (envelope * steps).sum(axis=1) / len(RECALL_THRESHOLDS)
    result: FloatArray = np.where(num_objects > 0, average, np.nan)
    return result
