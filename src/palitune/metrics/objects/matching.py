"""Matching of predicted to reference objects by label and IoU, without scores."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from palitune.records import Box, Instance

MATCH_IOU = 0.5

Overlaps = Sequence[Sequence[float]]
"""By predicted and reference object: their IoU, or the share of the former inside a crowd."""


@dataclass(frozen=True)
class MatchCounts:
    """Number of correct, invented and missed objects; a ratio of 0 to 0 is NaN."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def precision(self) -> float:
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        return _ratio(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )


def box_iou(a: Box, b: Box) -> float:
    """Return intersection over union in [0, 1]; 0 if both boxes are empty."""
    shared = intersection_area(a, b)
    union = box_area(a) + box_area(b) - shared
    return shared / union if union > 0 else 0.0


def box_area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def intersection_area(a: Box, b: Box) -> float:
    """Return the area that two boxes share; 0 if they do not overlap."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def box_overlaps(predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
    return [
        [_share_inside(p.box, r.box) if r.crowd else box_iou(p.box, r.box) for r in reference]
        for p in predicted
    ]


def match_pairs(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps,
    min_iou: float = MATCH_IOU,
) -> dict[int, int]:
    """Match objects of the same label one to one, the best IoU first.

    Args:
        predicted: Predicted objects of one image.
        reference: Reference objects of the same image; a crowd is in no match.
        overlaps: IoU by predicted and by reference object.
        min_iou: Smallest IoU of a match.

    Returns:
        Index of the predicted object by index of the reference object.
    """
    candidates = [
        (overlaps[p][r], p, r)
        for p, prediction in enumerate(predicted)
        for r, truth in enumerate(reference)
        if prediction.label == truth.label and not truth.crowd and overlaps[p][r] >= min_iou
    ]
    matches: dict[int, int] = {}
    taken: set[int] = set()
    for _, p, r in sorted(candidates, key=lambda candidate: -candidate[0]):
        if p not in taken and r not in matches:
            taken.add(p)
            matches[r] = p
    return matches


def false_positives(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps,
    matches: Mapping[int, int],
) -> list[int]:
    """Return the indices of unmatched predictions outside crowds.

    A prediction with at least half of its area inside a crowd of its label is ignored, as in COCO.

    Args:
        predicted: Predicted objects of one image.
        reference: Reference objects of the same image.
        overlaps: IoU by predicted and by reference object.
        matches: Result of `match_pairs`.
    """
    matched = set(matches.values())
    return [
        index
        for index, (prediction, row) in enumerate(zip(predicted, overlaps, strict=True))
        if index not in matched
        and not any(
            truth.crowd and truth.label == prediction.label and overlap >= MATCH_IOU
            for truth, overlap in zip(reference, row, strict=True)
        )
    ]


def count_matches(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps | None = None,
) -> MatchCounts:
    """Count matches and unmatched objects; `overlaps` default to those of the boxes.

    Crowd regions are ignored as in COCO: they need no match, and a prediction inside one of them
    is not counted as invented.
    """
    overlaps = box_overlaps(predicted, reference) if overlaps is None else overlaps
    matches = match_pairs(predicted, reference, overlaps)
    invented = false_positives(predicted, reference, overlaps, matches)
    num_objects = sum(not truth.crowd for truth in reference)
    return MatchCounts(len(matches), len(invented), num_objects - len(matches))


def _share_inside(box: Box, crowd: Box) -> float:
    """Return the share of a box inside a crowd region; 0 for a box without area."""
    return intersection_area(box, crowd) / box_area(box) if box_area(box) > 0 else 0.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
