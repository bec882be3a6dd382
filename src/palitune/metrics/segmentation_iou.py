"""Masks judged: the one object that an expression means, and all objects of an image.

`referring_segmentation` reports what RefCOCO is quoted by, as LAVT's evaluation and big_vision's
compute it: the mean of the IoUs (mIoU, gIoU), the ratio of summed intersections and unions (oIoU,
cIoU), and the share of examples from an IoU on. The two IoUs are far apart: never compare them.
`segmentation` reports COCO's average precision of masks, and numbers that need no scores: see
`metrics.detection_ap`, of which it is the counterpart; its names begin with `mask_`.
"""

import math
from collections.abc import Sequence

import numpy as np

from palitune.codec import masks
from palitune.examples import Example, Instance, Mask, Prediction, mask_to_json
from palitune.metrics.base import Metric, objects_of
from palitune.metrics.detection_ap import (
    Annotation,
    Judged,
    Matches,
    Overlaps,
    as_coco,
    box_iou,
    coco_ap,
    match,
    pairs,
)

PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
BOX_ACCURACY_AT = (0.5, 0.75)


def mask_iou(a: Mask, b: Mask) -> float:
    """Return intersection over union in [0, 1] of masks of one size; 0 where both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 0.0


class ReferringSegmentation(Metric):
    """Judge the first object of each prediction against the one of the reference."""

    def __init__(self) -> None:
        self.ious: list[float] = []
        self.box_ious: list[float] = []
        self.intersection = 0
        self.union = 0

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = objects_of(example.reference, f"example {example.id}")
        predicted = objects_of(prediction.value or (), f"prediction {prediction.id}")
        if len(reference) != 1:
            raise TypeError(
                f"example {example.id} refers to {len(reference)} objects; the metric "
                "referring_segmentation needs one, segmentation takes any number"
            )
        truth, guess = _mask(reference[0]), np.zeros((1, 1), dtype=bool)
        box_overlap = 0.0
        if predicted:
            guess = _mask(predicted[0])
            box_overlap = box_iou(predicted[0].box, reference[0].box)
        self.intersection += int(np.count_nonzero(truth & guess))
        self.union += int(np.count_nonzero(truth | guess))
        self.ious.append(mask_iou(truth, guess))
        self.box_ious.append(box_overlap)
        return {"iou": self.ious[-1], "box_iou": self.box_ious[-1]}

    def compute(self) -> dict[str, float]:
        precision = {f"precision@{_short(t)}": _from(t, self.ious) for t in PRECISION_AT}
        accuracy = {f"box_accuracy@{_short(t)}": _from(t, self.box_ious) for t in BOX_ACCURACY_AT}
        return {
            "mean_iou": _mean(self.ious),
            "cumulative_iou": self.intersection / self.union if self.union else math.nan,
            **precision,
            **accuracy,
        }


class Segmentation(Metric):
    """Report COCO's numbers of masks, the score-free ones, and what could not be read.

    `mask_iou` is the mean over the objects of the references of the IoU with their match, 0 for a
    missed one; `mask_iou_matched` the mean over those that were found, from an IoU of .5 on.
    """

    def __init__(self) -> None:
        self.judged: list[Judged] = []
        self.matches = Matches(0, 0, 0)
        self.matched: list[float] = []
        self.malformed = 0

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = objects_of(example.reference, f"example {example.id}")
        predicted = objects_of(prediction.value or (), f"prediction {prediction.id}")
        truths = [_annotation(instance) for instance in reference]
        guesses = [_annotation(instance) for instance in predicted]
        self.judged.append(Judged(example.id, example.size, truths, guesses))
        self.malformed += masks.scan(prediction.text, example.size)[1]
        overlaps = _overlaps(guesses, truths)
        found = pairs(predicted, reference, overlaps)
        matches = match(predicted, reference, overlaps)
        self.matches += matches
        self.matched += (ious := [overlaps[left][right] for right, left in found.items()])
        scores = {"mask_f1@.5": 1.0 if math.isnan(matches.f1) else matches.f1}
        return scores | ({"mask_iou": _shared(ious, matches)} if _to_find(matches) else {})

    def compute(self) -> dict[str, float]:
        coco = coco_ap(*as_coco(self.judged), kind="segm")
        return {f"mask_{name}": value for name, value in coco.items()} | {
            "mask_precision@.5": self.matches.precision,
            "mask_recall@.5": self.matches.recall,
            "mask_f1@.5": self.matches.f1,
            "mask_iou": _shared(self.matched, self.matches),
            "mask_iou_matched": _mean(self.matched),
            "malformed_objects": self.malformed / len(self.judged) if self.judged else math.nan,
        }


def _mask(instance: Instance) -> Mask:
    if instance.mask is None:
        raise TypeError(f"object '{instance.label}' has no mask; a segmentation metric needs one")
    return instance.mask


def _annotation(instance: Instance) -> Annotation:
    """Write an object as COCO does; without a box, whose area would be taken for the mask's."""
    mask = _mask(instance)
    return {
        "label": instance.label,
        "segmentation": mask_to_json(mask),
        "area": float(np.count_nonzero(mask)),
        "iscrowd": int(instance.crowd),
        "score": 1.0 if instance.score is None else instance.score,
    }


def _overlaps(guesses: Sequence[Annotation], truths: Sequence[Annotation]) -> Overlaps:
    from pycocotools import mask as coco_mask

    if not guesses or not truths:
        return [[] for _ in guesses]
    outlines = ([entry["segmentation"] for entry in entries] for entries in (guesses, truths))
    ious: list[list[float]] = coco_mask.iou(*outlines, [t["iscrowd"] for t in truths]).tolist()
    return ious


def _shared(ious: Sequence[float], matches: Matches) -> float:
    """Return the mean IoU over found and missed objects, those of the latter 0."""
    return sum(ious) / _to_find(matches) if _to_find(matches) else math.nan


def _to_find(matches: Matches) -> int:
    return matches.found + matches.missed


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _from(threshold: float, values: Sequence[float]) -> float:
    return _mean([float(value >= threshold) for value in values])


def _short(threshold: float) -> str:
    return f"{threshold:g}".removeprefix("0")
