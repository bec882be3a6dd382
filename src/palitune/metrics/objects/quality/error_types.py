"""Error types of detections and the average precision that each of them costs.

The definitions and the arithmetic are those of TIDE (Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020) as in the library tidecv 1.0.1: matching at IoU .5
by descending score, background up to IoU .1, and the AP of a class that has predictions, but no
reference object, is 0. The cost of a type is the AP without the errors of this type minus the AP.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palitune.metrics.base import FloatArray
from palitune.metrics.objects.coco_matching import IouType, pairwise_iou
from palitune.metrics.objects.detection import CocoAnnotation, CocoExample, coco_image_order

ERROR_TYPES = {
    "classification": "IoU of at least .5 with an object of another class.",
    "localization": "IoU of .1 to .5 with an object of the same class.",
    "both": "IoU of .1 to .5 with an object of another class.",
    "duplicate": "IoU of at least .5 with an object of the same class that has a better match.",
    "background": "IoU of at most .1 with every object.",
    "missed": "A reference object that no prediction finds, nor would after correction.",
}
"""Definition of each type of error, in the order of TIDE."""
MATCH_IOU, BACKGROUND_IOU = 0.5, 0.1
MAX_DETECTIONS = 100
"""Maximum number of detections per image, the most confident ones."""

_RECALLS = np.arange(101) / 100
_Ranked = dict[str, list[tuple[float, bool]]]
"""(score, whether correct) of the detections of each class."""


@dataclass(frozen=True, kw_only=True)
class ErrorCosts:
    """Errors of each type and the average precision that they cost, in [0, 1]."""

    ap: float
    """AP at IoU .5, mean over the classes with reference objects or predictions."""
    counts: dict[str, int]
    costs: dict[str, float]
    false_positives: float
    """Cost of all wrong predictions together."""
    false_negatives: float
    """Cost of all missed objects together."""

    def to_json(self) -> dict[str, Any]:
        return {
            "ap": self.ap,
            "types": {
                name: {"count": self.counts[name], "cost": self.costs[name]} for name in ERROR_TYPES
            },
            "false_positives": self.false_positives,
            "false_negatives": self.false_negatives,
        }


@dataclass
class _Truth:
    """A reference object that counts."""

    label: str
    matched: bool = False
    correctable: bool = False
    """Whether the correction of an error would find it."""
    best: "tuple[float, int] | None" = None
    """Highest score of the errors whose correction would find it, and the number of that error."""


@dataclass(frozen=True)
class _Error:
    kind: str
    label: str
    score: float
    counted: bool
    """Whether the error lowers the AP; not if it is a missed object, or inside a crowd."""
    truth: _Truth | None = None
    """The object that its correction finds."""


@dataclass
class _Analysis:
    """Detections and errors of all images."""

    detections: list[tuple[str, float, bool]] = field(default_factory=list)
    """(label, score, whether correct) of every detection that counts."""
    errors: list[_Error] = field(default_factory=list)
    truths: list[_Truth] = field(default_factory=list)
    labels: dict[str, None] = field(default_factory=dict)
    """Every class that has predictions or objects that count."""


def error_costs(examples: Sequence[CocoExample], kind: IouType = "bbox") -> ErrorCosts | None:
    """Return the errors of each type and their cost; None without objects and predictions.

    Args:
        examples: Evaluated examples. Crowds are ignored as by TIDE: a wrong prediction with more
            than half of its area inside a crowd of its class does not lower the AP.
        kind: Boxes or masks.
    """
    analysis = _Analysis()
    for index in coco_image_order(examples):
        _analyze(examples[index], kind, analysis)
    if not analysis.labels:
        return None
    ap = _ap(analysis)
    costs = {name: max(_corrected_ap(analysis, name) - ap, 0.0) for name in ERROR_TYPES}
    counts = {name: sum(e.kind == name for e in analysis.errors) for name in ERROR_TYPES}
    return ErrorCosts(
        ap=ap,
        counts=counts,
        costs=costs,
        false_positives=_ap_of_perfect_scores(analysis) - ap,
        false_negatives=_ap_of_found_objects(analysis) - ap,
    )


def _analyze(example: CocoExample, kind: IouType, analysis: _Analysis) -> None:
    """Match the detections of one image and add its errors."""
    entries = [entry for entry in example.reference if not entry["iscrowd"]]
    crowds = [entry for entry in example.reference if entry["iscrowd"]]
    truths = [_Truth(entry["label"]) for entry in entries]
    analysis.truths += truths
    ranked = sorted(example.predicted, key=lambda entry: -entry["score"])[:MAX_DETECTIONS]
    ious = _overlaps(ranked, entries, kind, crowd=0)
    same = np.array([[d["label"] == t.label for t in truths] for d in ranked], bool)
    same = same.reshape(ious.shape)
    matched = _match(ious * same, truths)
    inside = _inside_crowd(ranked, crowds, kind)
    for index, detection in enumerate(ranked):
        label, score = detection["label"], detection["score"]
        if matched[index] or not inside[index]:
            analysis.detections.append((label, score, matched[index]))
            analysis.labels[label] = None
        if matched[index]:
            continue
        name, truth = _error_type(ious[index], same[index], truths)
        if truth is not None and truth.matched:
            truth = None
        if truth is not None:
            truth.correctable = True
            if truth.best is None or truth.best[0] < score:
                truth.best = score, len(analysis.errors)
        analysis.errors.append(_Error(name, label, score, not inside[index], truth))
    for truth in truths:
        analysis.labels[truth.label] = None
        if not truth.matched and not truth.correctable:
            analysis.errors.append(_Error("missed", truth.label, 0.0, False, truth))


def _overlaps(
    detections: list[CocoAnnotation],
    truths: list[CocoAnnotation],
    kind: IouType,
    *,
    crowd: int,
) -> FloatArray:
    """Return IoU by detection and object, or the share of the detection inside a crowd."""
    if not detections or not truths:
        return np.zeros((len(detections), len(truths)))
    return np.array(pairwise_iou(detections, truths, [crowd] * len(truths), kind), float)


def _match(ious: FloatArray, truths: Sequence[_Truth]) -> list[bool]:
    """Match each detection to the free object of its class with the highest IoU."""
    free, matched = ious.copy(), []
    for row in free:
        best = int(row.argmax()) if len(row) else -1
        matched.append(best >= 0 and bool(row[best] >= MATCH_IOU))
        if matched[-1]:
            truths[best].matched = True
            free[:, best] = 0
    return matched


def _inside_crowd(
    detections: list[CocoAnnotation],
    crowds: list[CocoAnnotation],
    kind: IouType,
) -> list[bool]:
    shares = _overlaps(detections, crowds, kind, crowd=1)
    return [
        any(
            share > MATCH_IOU and crowd["label"] == detection["label"]
            for share, crowd in zip(row, crowds, strict=True)
        )
        for row, detection in zip(shares, detections, strict=True)
    ]


def _error_type(ious: FloatArray, same: Any, truths: Sequence[_Truth]) -> tuple[str, _Truth | None]:
    """Return the type of an unmatched detection, and the object that its correction finds."""
    if not truths:
        return "background", None
    of_class, of_others = ious * same, ious * ~same
    if BACKGROUND_IOU <= of_class.max() <= MATCH_IOU:
        return "localization", truths[int(of_class.argmax())]
    if of_others.max() >= MATCH_IOU:
        return "classification", truths[int(of_others.argmax())]
    if (of_class * [truth.matched for truth in truths]).max() >= MATCH_IOU:
        return "duplicate", None
    return ("background" if ious.max() <= BACKGROUND_IOU else "both"), None


def _ap(analysis: _Analysis) -> float:
    ranked: _Ranked = {label: [] for label in analysis.labels}
    for label, score, correct in analysis.detections:
        ranked[label].append((score, correct))
    return _mean_ap(ranked, _num_objects(analysis))


def _corrected_ap(analysis: _Analysis, kind: str) -> float:
    """Return the AP after the correction of the errors of a type.

    Of several errors that find the same object, only the most confident one becomes correct and the
    others are removed, also errors of another type. A missed object is removed. Of equal scores,
    the errors rank first.
    """
    num_objects = _num_objects(analysis)
    ranked: _Ranked = {label: [] for label in analysis.labels}
    for number, error in enumerate(analysis.errors):
        if error.kind != kind:
            if error.counted:
                ranked[error.label].append((error.score, False))
        elif error.kind == "missed":
            num_objects[error.label] -= 1
        elif error.truth is not None and error.truth.best == (error.score, number):
            ranked[error.truth.label].append((error.score, True))
    for label, score in _correct(analysis):
        ranked[label].append((score, True))
    return _mean_ap(ranked, num_objects)


def _ap_of_perfect_scores(analysis: _Analysis) -> float:
    """Return the AP if every correct prediction had score 1 and every wrong one score 0."""
    ranked: _Ranked = {label: [] for label in analysis.labels}
    for error in analysis.errors:
        if error.counted:
            ranked[error.label].append((0.0, False))
    for label, _ in _correct(analysis):
        ranked[label].append((1.0, True))
    return _mean_ap(ranked, _num_objects(analysis))


def _ap_of_found_objects(analysis: _Analysis) -> float:
    """Return the AP without the reference objects that have no match."""
    ranked: _Ranked = {label: [] for label in analysis.labels}
    for error in analysis.errors:
        if error.counted:
            ranked[error.label].append((error.score, False))
    num_objects = dict.fromkeys(analysis.labels, 0)
    for label, score in _correct(analysis):
        ranked[label].append((score, True))
        num_objects[label] += 1
    return _mean_ap(ranked, num_objects)


def _correct(analysis: _Analysis) -> list[tuple[str, float]]:
    return [(label, score) for label, score, correct in analysis.detections if correct]


def _num_objects(analysis: _Analysis) -> dict[str, int]:
    counts = dict.fromkeys(analysis.labels, 0)
    for truth in analysis.truths:
        counts[truth.label] += 1
    return counts


def _mean_ap(ranked: _Ranked, num_objects: dict[str, int]) -> float:
    """Return the mean over the classes that have objects or predictions; 0 if there are none."""
    values = [
        _average_precision(detections, num_objects[label])
        for label, detections in ranked.items()
        if detections or num_objects[label]
    ]
    return sum(values) / len(values) if values else 0.0


def _average_precision(detections: Sequence[tuple[float, bool]], num_objects: int) -> float:
    """Return the mean of the precisions at 101 recalls."""
    if not num_objects or not detections:
        return 0.0
    order = np.argsort([-score for score, _ in detections], kind="stable")
    num_correct = np.cumsum(np.array([correct for _, correct in detections])[order])
    precision = num_correct / np.arange(1, len(detections) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    ranks = np.searchsorted(num_correct / num_objects, _RECALLS, side="left")
    return float(np.append(envelope, 0.0)[ranks].mean())
