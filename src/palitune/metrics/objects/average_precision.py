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
IntArray = npt.NDArray[np.integer]


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
    with_objects = np.flatnonzero(matches.num_objects.any(axis=0))  # few images have the class
    num_objects_by_area = matches.num_objects[:, with_objects] @ counts[:, with_objects].T
    ap = np.full((len(AREA_RANGES), len(IOU_THRESHOLDS), len(counts)), np.nan)
    recall = {}
    for area, num_objects in enumerate(num_objects_by_area):
        for limit in MAX_DETECTIONS if area == 0 else MAX_DETECTIONS[-1:]:
            is_match = (matches.status[area] == MATCHED) & (matches.rank < limit)
            num_matches = (weights @ is_match.T.astype(float)).mean(axis=1)
            recall[area, limit] = ratio(num_matches, num_objects)
        is_counted = (matches.status[area] != IGNORED).any(axis=0)
        ap[area] = _average_precisions(
            weights[:, is_counted].astype(np.int32),
            matches.status[area][:, is_counted],
            num_objects,
        )
    mean = ap.mean(axis=1)
    values = [mean[0], ap[0, 0], ap[0, 5], *mean[1:]]
    values += [recall[0, limit] for limit in MAX_DETECTIONS]
    values += [recall[area, MAX_DETECTIONS[-1]] for area in (1, 2, 3)]
    return dict(zip(STAT_NAMES, values, strict=True))


def _average_precisions(
    weights: IntArray, statuses: StatusArray, num_objects: FloatArray
) -> FloatArray:
    """Return the mean of the precisions at 101 recalls: (thresholds, test sets).

    Args:
        weights: (test sets, detections) occurrences of each detection's image.
        statuses: (thresholds, detections).
        num_objects: (test sets,).
    """
    averages = np.zeros((len(statuses), len(weights)))
    required = _required_matches(num_objects)
    num_counted = {}  # without ignored detections it is the same at every threshold
    for threshold, status in enumerate(statuses):
        matched = np.flatnonzero(status == MATCHED)
        if not matched.size:
            continue
        is_counted = status != IGNORED
        key = is_counted.tobytes()
        if key not in num_counted:
            num_counted = {key: np.cumsum(weights * is_counted, axis=1, dtype=np.int32)}
        averages[threshold] = _average_precision(
            np.cumsum(weights[:, matched], axis=1, dtype=np.int32),
            num_counted[key][:, matched],
            required,
        )
    averages[:, num_objects == 0] = np.nan
    return averages


def _average_precision(
    num_correct: IntArray, num_counted: IntArray, required: IntArray
) -> FloatArray:
    """Return the mean of the precisions at 101 recalls for each test set, (test sets,).

    Only matched detections are evaluated, because precision falls between two of them.

    Args:
        num_correct: (test sets, matched detections) matches up to and with each one.
        num_counted: The same for matches and false detections.
        required: (test sets, recalls) matches that reach each recall.
    """
    num_sets, num_matched = num_correct.shape
    precision = num_correct / np.maximum(num_counted, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # One search in all test sets: each has a range of integers of its own.
    limit = int(num_correct.max()) + 1
    offsets = np.arange(num_sets, dtype=np.int64)[:, None] * (limit + 1)
    wanted = np.minimum(required, limit) + offsets
    places = np.searchsorted((num_correct + offsets).ravel(), wanted.ravel()).reshape(wanted.shape)
    places -= np.arange(num_sets)[:, None] * num_matched
    reached = places < num_matched
    precisions = np.take_along_axis(envelope, np.where(reached, places, 0), axis=1)
    average: FloatArray = (precisions * reached).sum(axis=1) / len(RECALL_THRESHOLDS)
    return average


def _required_matches(num_objects: FloatArray) -> IntArray:
    """Return the fewest matches whose recall is at least each threshold: (test sets, recalls)."""
    objects = np.maximum(num_objects, 1)[:, None]
    required = np.ceil(RECALL_THRESHOLDS * objects)  # off by one where a product is rounded
    required -= (required - 1) / objects >= RECALL_THRESHOLDS
    required += required / objects < RECALL_THRESHOLDS
    result: IntArray = np.maximum(required, 0).astype(np.int64)
    return result
