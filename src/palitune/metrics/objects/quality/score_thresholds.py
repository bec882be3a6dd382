"""Precision, recall and F1 of objects over the lowest score that is kept, and the best score.

Objects are matched at IoU .5 within their class, the most confident one first, so that leaving out
objects of low scores changes no match of the others. Crowds are ignored as in COCO.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palitune.metrics.base import FloatArray, ratio
from palitune.metrics.objects.coco_matching import IouType, pairwise_iou
from palitune.metrics.objects.detection import CocoExample
from palitune.metrics.objects.matching import MATCH_IOU


@dataclass(frozen=True)
class ScoredMatches:
    """Predicted objects by descending score, and the number of reference objects."""

    scores: FloatArray
    """(objects,)"""
    correct: npt.NDArray[np.bool_]
    """(objects,)"""
    num_objects: int


@dataclass(frozen=True)
class ScoreCurve:
    """Precision, recall and F1 of the objects from a score on, (distinct scores,) descending."""

    scores: FloatArray
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The score with the best F1, and the values that it gives."""

    threshold: float | None
    """Objects with this score or more are kept; None if no prediction is correct."""
    precision: float
    recall: float
    f1: float
    objects: int
    """Number of reference objects."""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def scored_matches(
    examples: Sequence[CocoExample], kind: IouType = "bbox"
) -> dict[str, ScoredMatches]:
    """Match the predictions of all images.

    Args:
        examples: Evaluated examples.
        kind: Boxes or masks.

    Returns:
        By class, the class with the most reference objects first.
    """
    scored: dict[str, list[tuple[float, bool]]] = {}
    num_objects: dict[str, int] = {}
    for example in examples:
        for entry in example.reference:
            if not entry["iscrowd"]:
                num_objects[entry["label"]] = num_objects.get(entry["label"], 0) + 1
        for label, score, correct in _match_image(example, kind):
            scored.setdefault(label, []).append((score, correct))
    labels = dict.fromkeys([*num_objects, *scored])
    return {
        label: _by_score(scored.get(label, ()), num_objects.get(label, 0))
        for label in sorted(labels, key=lambda label: (-num_objects.get(label, 0), label))
    }


def pool_classes(matches: Iterable[ScoredMatches]) -> ScoredMatches:
    """Return the objects of all classes together."""
    parts = list(matches)
    pairs = [p for m in parts for p in zip(m.scores.tolist(), m.correct.tolist(), strict=True)]
    return _by_score(pairs, sum(part.num_objects for part in parts))


def score_curve(matches: ScoredMatches) -> ScoreCurve:
    """Return the values at every distinct score; recall and F1 are NaN without objects."""
    num_correct = np.cumsum(matches.correct).astype(float)
    num_kept = np.arange(1, len(matches.scores) + 1, dtype=float)
    # Objects of one score are kept or left out together.
    last = np.flatnonzero(np.append(np.diff(matches.scores) != 0, True)[: len(matches.scores)])
    num_correct, num_kept = num_correct[last], num_kept[last]
    num_objects = np.full(len(last), float(matches.num_objects))
    return ScoreCurve(
        scores=matches.scores[last],
        precision=ratio(num_correct, num_kept),
        recall=ratio(num_correct, num_objects),
        f1=np.where(num_objects > 0, ratio(2 * num_correct, num_kept + num_objects), np.nan),
    )


def best_f1(matches: ScoredMatches) -> OperatingPoint:
    """Return the threshold with the best F1, the highest one of several.

    The threshold lies halfway between the lowest score that is kept and the next one below, because
    all thresholds between them give the same objects.
    """
    curve = score_curve(matches)
    if not matches.num_objects or not matches.correct.any():
        return OperatingPoint(
            threshold=None,
            precision=0.0 if len(matches.scores) else float("nan"),
            recall=0.0 if matches.num_objects else float("nan"),
            f1=0.0 if matches.num_objects else float("nan"),
            objects=matches.num_objects,
        )
    best = int(curve.f1.argmax())
    below = curve.scores[best + 1] if best + 1 < len(curve.scores) else 0.0
    middle = (curve.scores[best] + below) / 2
    return OperatingPoint(
        threshold=float(middle if below < middle else curve.scores[best]),
        precision=float(curve.precision[best]),
        recall=float(curve.recall[best]),
        f1=float(curve.f1[best]),
        objects=matches.num_objects,
    )


def score_thresholds(examples: Sequence[CocoExample], kind: IouType = "bbox") -> dict[str, Any]:
    """Return the best F1 over all classes (`overall`) and of each class (`classes`) as JSON.

    A class without reference objects has no entry, because its F1 is not defined.
    """
    by_class = scored_matches(examples, kind)
    return {
        "overall": best_f1(pool_classes(by_class.values())).to_json(),
        "classes": {
            label: best_f1(matches).to_json()
            for label, matches in by_class.items()
            if matches.num_objects
        },
    }


def _match_image(example: CocoExample, kind: IouType) -> list[tuple[str, float, bool]]:
    """Return (label, score, whether correct) of the predictions that are not inside a crowd."""
    ranked = sorted(example.predicted, key=lambda entry: -entry["score"])
    truths = example.reference
    overlaps: list[list[float]] = [[] for _ in ranked]
    if ranked and truths:
        overlaps = pairwise_iou(ranked, truths, [entry["iscrowd"] for entry in truths], kind)
    used: set[int] = set()
    scored = []
    for prediction, row in zip(ranked, overlaps, strict=True):
        near = [
            index
            for index, (truth, overlap) in enumerate(zip(truths, row, strict=True))
            if truth["label"] == prediction["label"] and overlap >= MATCH_IOU
        ]
        free = [index for index in near if not truths[index]["iscrowd"] and index not in used]
        if free:
            used.add(max(free, key=lambda index: row[index]))
        elif any(truths[index]["iscrowd"] for index in near):
            continue
        scored.append((prediction["label"], prediction["score"], bool(free)))
    return scored


def _by_score(scored: Sequence[tuple[float, bool]], num_objects: int) -> ScoredMatches:
    ranked = sorted(scored, key=lambda pair: -pair[0])
    return ScoredMatches(
        scores=np.array([score for score, _ in ranked], float),
        correct=np.array([correct for _, correct in ranked], bool),
        num_objects=num_objects,
    )
