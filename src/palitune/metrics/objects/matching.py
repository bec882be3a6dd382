"""Which predicted object is which of the reference: by label and IoU, without scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from palitune.records import Box, Instance

MATCH_IOU = 0.5


def box_iou(a: Box, b: Box) -> float:
    """Return intersection over union in [0, 1]; 0 where both boxes are empty."""
    shared = _intersection(a, b)
    union = box_area(a) + box_area(b) - shared
    return shared / union if union > 0 else 0.0


@dataclass(frozen=True)
class MatchCounts:
    """How many objects were found, invented and missed; a ratio of nothing is NaN."""

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

    def __add__(self, other: "MatchCounts") -> "MatchCounts":
        return MatchCounts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )


Overlaps = Sequence[Sequence[float]]
"""By predicted and by reference object: their IoU, or what share of the former lies in a crowd."""


def box_overlaps(predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
    return [
        [_share_inside(g.box, t.box) if t.crowd else box_iou(g.box, t.box) for t in reference]
        for g in predicted
    ]


def match_pairs(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps,
    min_iou: float = MATCH_IOU,
) -> dict[int, int]:
    """Pair objects of the same label one to one, the best IoU first, from IoU `least` on.

    Returns the index of the predicted object by that of the reference; a crowd is in no pair.
    """
    candidates = [
        (overlaps[left][right], left, right)
        for left, guess in enumerate(predicted)
        for right, truth in enumerate(reference)
        if guess.label == truth.label and not truth.crowd and overlaps[left][right] >= min_iou
    ]
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, left, right in sorted(candidates, key=lambda candidate: -candidate[0]):
        if left not in taken and right not in found:
            taken.add(left)
            found[right] = left
    return found


def count_matches(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps | None = None,
) -> MatchCounts:
    """Count what `pairs` finds, and what is left over; `overlaps` are those of the boxes if None.

    Crowd regions are ignored as in COCO: they need not be found, and a prediction that matches
    nothing else but lies at least half inside a crowd of its label is not counted as invented.
    """
    overlaps = box_overlaps(predicted, reference) if overlaps is None else overlaps
    found = match_pairs(predicted, reference, overlaps)
    crowds = sum(truth.crowd for truth in reference)
    invented = sum(
        not in_crowd(guess, reference, overlaps[left])
        for left, guess in enumerate(predicted)
        if left not in found.values()
    )
    return MatchCounts(len(found), invented, len(reference) - crowds - len(found))


def in_crowd(detection: Instance, reference: Sequence[Instance], overlaps: Sequence[float]) -> bool:
    """Tell whether a predicted object lies at least half inside a crowd of its label."""
    return any(
        truth.crowd and truth.label == detection.label and overlap >= MATCH_IOU
        for truth, overlap in zip(reference, overlaps, strict=True)
    )


def _intersection(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def box_area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _share_inside(box: Box, crowd: Box) -> float:
    """What share of a box lies in a crowd's; 0 for a box without extent."""
    return _intersection(box, crowd) / box_area(box) if box_area(box) > 0 else 0.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
