"""Suspected label errors: objects that a model is sure of and that the reference contradicts.

The objects are matched at IoU .5, the most confident one first. A prediction without a match is
suspected in one of three ways, and its suspicion is its score times the share by which it
contradicts the reference:

- `class`: IoU of at least .5 with a reference object of another class that no prediction matches;
  divided by the number of suspects with the same two classes, because a confusion that a model
  repeats is the model's;
- `elsewhere`: another unmatched object of its class is in the image; of several, the nearest;
- `missing`: neither.

A repetition of a matched object is the model's error and not suspected.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import dist

from palitune.metrics.base import predicted_objects, reference_objects
from palitune.metrics.objects.matching import MATCH_IOU, Overlaps, box_overlaps
from palitune.metrics.objects.segmentation import mask_overlaps
from palitune.records import Example, Instance, Prediction

KINDS = {
    "missing": "the reference has no such object",
    "elsewhere": "the reference has the object at another place",
    "class": "the reference has the object under another class",
}
"""Description of each kind of suspected error."""

_MAX_DISTANCE = 2.0
"""Distance of the centers, in sides of the prediction, up to which an object counts as moved."""


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A suspected label error."""

    example: Example
    kind: str
    """missing | elsewhere | class"""
    predicted: Instance
    reference: Instance | None
    """The object that is elsewhere or of another class; None if it is missing."""
    iou: float
    """IoU with `reference`, or the largest with any object if it is missing."""
    suspicion: float
    """In [0, 1]."""


def find_suspects(pairs: Iterable[tuple[Example, Prediction]]) -> list[Suspect]:
    """Return the suspected label errors, the largest suspicion first.

    Args:
        pairs: Examples with reference objects, and their predictions; a predicted object without a
            score is not suspected.
    """
    suspects = [
        suspect for example, prediction in pairs for suspect in _suspects_of(example, prediction)
    ]
    pairs_of_classes = Counter(map(_class_pair, suspects))
    weighted = [
        replace(suspect, suspicion=suspect.suspicion / pairs_of_classes[_class_pair(suspect)])
        if suspect.kind == "class"
        else suspect
        for suspect in suspects
    ]
    return sorted(weighted, key=lambda suspect: -suspect.suspicion)


def _class_pair(suspect: Suspect) -> tuple[str, str, str]:
    reference = "" if suspect.reference is None else suspect.reference.label
    return suspect.kind, reference, suspect.predicted.label


def _suspects_of(example: Example, prediction: Prediction) -> list[Suspect]:
    reference = reference_objects(example)
    predicted = sorted(predicted_objects(prediction), key=lambda item: -(item.score or 0))
    overlaps = _overlaps(predicted, reference)
    matches = _match(predicted, reference, overlaps)
    free = {index for index, truth in enumerate(reference) if not truth.crowd}
    free -= set(matches.values())
    suspects = []
    for number, (item, row) in enumerate(zip(predicted, overlaps, strict=True)):
        if number in matches or item.score is None or _is_explained(item, row, reference, free):
            continue
        kind, index, iou = _classify(item, row, reference, free)
        if index is not None:
            free.discard(index)
        weight = iou if kind == "class" else 1 - iou
        suspects.append(
            Suspect(
                example=example,
                kind=kind,
                predicted=item,
                reference=None if index is None else reference[index],
                iou=iou,
                suspicion=item.score * weight,
            )
        )
    return suspects


def _overlaps(predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
    if predicted and all(item.mask is not None for item in (*predicted, *reference)):
        return mask_overlaps(predicted, reference)
    return box_overlaps(predicted, reference)


def _match(
    predicted: Sequence[Instance], reference: Sequence[Instance], overlaps: Overlaps
) -> dict[int, int]:
    """Return the index of the reference object of each prediction that is correct."""
    matches: dict[int, int] = {}
    for number, (item, row) in enumerate(zip(predicted, overlaps, strict=True)):
        near = [
            index
            for index, truth in enumerate(reference)
            if truth.label == item.label
            and not truth.crowd
            and row[index] >= MATCH_IOU
            and index not in matches.values()
        ]
        if near:
            matches[number] = max(near, key=lambda index: row[index])
    return matches


def _is_explained(
    item: Instance, row: Sequence[float], reference: Sequence[Instance], free: set[int]
) -> bool:
    """Whether a prediction repeats a matched object, of any class, or lies inside a crowd."""
    return any(
        overlap >= MATCH_IOU
        and index not in free
        and (not truth.crowd or truth.label == item.label)
        for index, (truth, overlap) in enumerate(zip(reference, row, strict=True))
    )


def _classify(
    item: Instance, row: Sequence[float], reference: Sequence[Instance], free: set[int]
) -> tuple[str, int | None, float]:
    """Return the kind, the reference object, and the IoU."""
    best = max(free, key=lambda index: row[index], default=None)
    if best is not None and row[best] >= MATCH_IOU:
        return "class", best, row[best]
    same = [index for index in free if reference[index].label == item.label]
    nearest = min(same, key=lambda index: _distance(item, reference[index]), default=None)
    if nearest is not None and _distance(item, reference[nearest]) <= _MAX_DISTANCE:
        return "elsewhere", nearest, row[nearest]
    return "missing", None, max(row, default=0.0)


def _distance(item: Instance, other: Instance) -> float:
    """Return the distance of the centers of two boxes, in the longer side of the first."""
    centers = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in (item.box, other.box)]
    side = max(item.box[2] - item.box[0], item.box[3] - item.box[1], 1.0)
    return dist(*centers) / side
