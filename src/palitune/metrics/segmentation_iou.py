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
from palitune.metrics.base import Counts, Floats, Metric, objects_of, ratio, weighted_mean
from palitune.metrics.coco_matches import Matches as CocoMatches
from palitune.metrics.detection_ap import Annotation, Judged, as_coco, labels_of, order_of
from palitune.metrics.matching import Overlaps, box_iou, match, pairs
from palitune.metrics.object_slices import Tally, object_slices, tally

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
        self.pixels: list[tuple[int, int]] = []
        """Those of the intersection and of the union, of each example."""

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
        shared, union = np.count_nonzero(truth & guess), np.count_nonzero(truth | guess)
        self.pixels.append((int(shared), int(union)))
        self.ious.append(mask_iou(truth, guess))
        self.box_ious.append(box_overlap)
        return {"iou": self.ious[-1], "box_iou": self.box_ious[-1]}

    def compute(self) -> dict[str, float]:
        numbers = self.weighted(np.ones((1, len(self.ious))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        shared, union = (counts @ np.array(self.pixels, float).reshape(-1, 2)).T
        precision = {f"precision@{_short(t)}": (t, self.ious) for t in PRECISION_AT}
        accuracy = {f"box_accuracy@{_short(t)}": (t, self.box_ious) for t in BOX_ACCURACY_AT}
        return {
            "mean_iou": weighted_mean(counts, self.ious),
            "cumulative_iou": ratio(shared, union),
        } | {
            name: weighted_mean(counts, [iou >= least for iou in ious])
            for name, (least, ious) in (precision | accuracy).items()
        }


class Segmentation(Metric):
    """Report COCO's numbers of masks, the score-free ones, and what could not be read.

    `mask_iou` is the mean over the objects of the references of the IoU with their match, 0 for a
    missed one; `mask_iou_matched` the mean over those that were found, from an IoU of .5 on.
    """

    def __init__(self) -> None:
        self.judged: list[Judged] = []
        self.counted: list[tuple[float, ...]] = []
        """Objects found, invented and missed, their IoUs' sum, and fragments malformed."""
        self.tallies: list[Tally] = []
        self._coco: CocoMatches | None = None

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = objects_of(example.reference, f"example {example.id}")
        predicted = objects_of(prediction.value or (), f"prediction {prediction.id}")
        truths = [_annotation(instance) for instance in reference]
        guesses = [_annotation(instance) for instance in predicted]
        self.judged.append(Judged(example.id, example.size, truths, guesses))
        self._coco = None
        overlaps = _overlaps(guesses, truths)
        areas = ([entry["area"] for entry in entries] for entries in (guesses, truths))
        self.tallies.append(tally(predicted, next(areas), reference, next(areas), overlaps))
        found = pairs(predicted, reference, overlaps)
        matches = match(predicted, reference, overlaps)
        ious = sum(overlaps[left][right] for right, left in found.items())
        malformed = masks.scan(prediction.text, example.size)[1]
        self.counted.append((matches.found, matches.invented, matches.missed, ious, malformed))
        scores = {"mask_f1@.5": 1.0 if math.isnan(matches.f1) else matches.f1}
        to_find = matches.found + matches.missed
        return scores | ({"mask_iou": ious / to_find} if to_find else {})

    def compute(self) -> dict[str, float]:
        numbers = self.weighted(np.ones((1, len(self.judged))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        coco = self._matched().numbers(counts[:, order_of(self.judged)])
        found, invented, missed, ious, malformed = (
            counts @ np.array(self.counted, float).reshape(-1, 5)
        ).T
        return {f"mask_{name}": values for name, values in coco.items()} | {
            "mask_precision@.5": ratio(found, found + invented),
            "mask_recall@.5": ratio(found, found + missed),
            "mask_f1@.5": ratio(2 * found, 2 * found + invented + missed),
            "mask_iou": ratio(ious, found + missed),
            "mask_iou_matched": ratio(ious, found),
            "malformed_objects": ratio(malformed, counts.sum(axis=1)),
        }

    def slices(self) -> dict[str, dict[str, dict[str, float]]]:
        return object_slices(self.tallies, self._matched(), labels_of(self.judged), "mask_")

    def _matched(self) -> CocoMatches:
        """Match once, until another example comes in."""
        self._coco = self._coco or CocoMatches(*as_coco(self.judged), "segm")
        return self._coco


def mask_overlaps(predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
    """See `detection_ap.Overlaps`. Raises TypeError where an object has no mask."""
    return _overlaps([_annotation(i) for i in predicted], [_annotation(i) for i in reference])


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


def _short(threshold: float) -> str:
    return f"{threshold:g}".removeprefix("0")
