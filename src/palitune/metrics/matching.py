"""Which predicted object is which of the reference: by label and IoU, without scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from palitune.examples import Box, Instance

MATCH_IOU = 0.5


def box_iou(a: Box, b: Box) -> float:
    """Return intersection over union in [0, 1]; 0 where both boxes are empty."""
    shared = _intersection(a, b)
    union = box_area(a) + box_area(b) - shared
    return shared / union if union > 0 else 0.0


@dataclass(frozen=True)
class Matches:
    """How many objects were found, invented and missed; a ratio of nothing is NaN."""

    found: int
    invented: int
    missed: int

    @property
    def precision(self) -> float:
        return _ratio(self.found, self.found + self.invented)

    @property
    def recall(self) -> float:
        return _ratio(self.found, self.found + self.missed)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.found, 2 * self.found + self.invented + self.missed)

    def __add__(self, other: "Matches") -> "Matches":
        return Matches(
            self.found + other.found, self.invented + other.invented, self.missed + other.missed
        )


Overlaps = Sequence[Sequence[float]]
"""By predicted and by reference object: their IoU, or what share of the former lies in a crowd."""


def box_overlaps(predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
    return [
        [_share(g.box, t.box) if t.crowd else box_iou(g.box, t.box) for t in reference]
        for g in predicted
    ]


def pairs(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps,
    least: float = MATCH_IOU,
) -> dict[int, int]:
    """Pair objects of the same label one to one, the best IoU first, from IoU `least` on.

    Returns the index of the predicted object by that of the reference; a crowd is in no pair.
    """
    candidates = [
        (overlaps[left][right], left, right)
        for left, guess in enumerate(predicted)
        for right, truth in enumerate(reference)
        if guess.label == truth.label and not truth.crowd and overlaps[left][right] >= least
    ]
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, left, right in sorted(candidates, key=lambda candidate: -candidate[0]):
        if left not in taken and right not in found:
            taken.add(left)
            found[right] = left
    return found


def match(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps | None = None,
) -> Matches:
    """Count what `pairs` finds, and what is left over; `overlaps` are those of the boxes if None.

    Crowd regions are ignored as in COCO: they need not be found, and a prediction that matches
    nothing else but lies at least half inside a crowd of its label is not counted as invented.
    """
    overlaps = box_overlaps(predicted, reference) if overlaps is None else overlaps
    found = pairs(predicted, reference, overlaps)
    crowds = sum(truth.crowd for truth in reference)
    invented = sum(
        not excused(guess, reference, overlaps[left])
        for left, guess in enumerate(predicted)
        if left not in found.values()
    )
    return Matches(len(found), invented, len(reference) - crowds - len(found))


def excused(guess: Instance, reference: Sequence[Instance], overlaps: Sequence[float]) -> bool:
    """Tell whether a predicted object lies at least half inside a crowd of its label."""
    return any(
        truth.crowd and truth.label == guess.label and overlap >= MATCH_IOU
        for truth, overlap in zip(reference, overlaps, strict=True)
    )


def _intersection(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def box_area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _share(guess: Box, crowd: Box) -> float:
    """What share of a box lies in a crowd's; 0 for a box without extent."""
    return _intersection(guess, crowd) / box_area(guess) if box_area(guess) > 0 else 0.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
