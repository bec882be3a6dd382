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
from palitune.metrics.base import (
    FloatArray,
    Metric,
    ResampleCounts,
    ratio,
    require_objects,
    weighted_mean,
)
from palitune.metrics.objects.coco_matching import CocoMatches as CocoMatches
from palitune.metrics.objects.detection import (
    CocoAnnotation,
    CocoExample,
    category_names,
    coco_image_order,
    to_coco,
)
from palitune.metrics.objects.matching import Overlaps, box_iou, count_matches, match_pairs
from palitune.metrics.objects.per_class import Tally, count_by_class_and_size, object_slices
from palitune.records import Example, Instance, Mask, Prediction, mask_to_json

PRECISION_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
BOX_ACCURACY_THRESHOLDS = (0.5, 0.75)


def mask_iou(a: Mask, b: Mask) -> float:
    """Return intersection over union in [0, 1] of masks of one size; 0 where both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 0.0


class ReferringSegmentation(Metric):
    """Judge the first object of each prediction against the one of the reference."""

    def __init__(self) -> None:
        self.ious: list[float] = []
        self.box_ious: list[float] = []
        self.pixel_counts: list[tuple[int, int]] = []
        """Those of the intersection and of the union, of each example."""

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = require_objects(example.reference, f"example {example.id}")
        predicted = require_objects(prediction.value or (), f"prediction {prediction.id}")
        if len(reference) != 1:
            raise TypeError(
                f"example {example.id} refers to {len(reference)} objects; the metric "
                "referring_segmentation needs one, segmentation takes any number"
            )
        truth, guess = _require_mask(reference[0]), np.zeros((1, 1), dtype=bool)
        box_overlap = 0.0
        if predicted:
            guess = _require_mask(predicted[0])
            box_overlap = box_iou(predicted[0].box, reference[0].box)
        shared, union = np.count_nonzero(truth & guess), np.count_nonzero(truth | guess)
        self.pixel_counts.append((int(shared), int(union)))
        self.ious.append(mask_iou(truth, guess))
        self.box_ious.append(box_overlap)
        return {"iou": self.ious[-1], "box_iou": self.box_ious[-1]}

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.ious))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        shared, union = (counts @ np.array(self.pixel_counts, float).reshape(-1, 2)).T
        precision = {
            f"precision@{_format_threshold(t)}": (t, self.ious) for t in PRECISION_THRESHOLDS
        }
        accuracy = {
            f"box_accuracy@{_format_threshold(t)}": (t, self.box_ious)
            for t in BOX_ACCURACY_THRESHOLDS
        }
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
        self.examples: list[CocoExample] = []
        self.match_counts: list[tuple[float, ...]] = []
        """Objects found, invented and missed, their IoUs' sum, and fragments malformed."""
        self.slice_counts: list[Tally] = []
        self._cached_matches: CocoMatches | None = None

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = require_objects(example.reference, f"example {example.id}")
        predicted = require_objects(prediction.value or (), f"prediction {prediction.id}")
        truths = [_to_coco_annotation(instance) for instance in reference]
        guesses = [_to_coco_annotation(instance) for instance in predicted]
        self.examples.append(CocoExample(example.id, example.size, truths, guesses))
        self._cached_matches = None
        overlaps = _annotation_overlaps(guesses, truths)
        areas = ([entry["area"] for entry in entries] for entries in (guesses, truths))
        self.slice_counts.append(
            count_by_class_and_size(predicted, next(areas), reference, next(areas), overlaps)
        )
        found = match_pairs(predicted, reference, overlaps)
        matches = count_matches(predicted, reference, overlaps)
        ious = sum(overlaps[left][right] for right, left in found.items())
        malformed = masks.parse_objects(prediction.text, example.size)[1]
        self.match_counts.append(
            (
                matches.true_positives,
                matches.false_positives,
                matches.false_negatives,
                ious,
                malformed,
            )
        )
        scores = {"mask_f1@.5": 1.0 if math.isnan(matches.f1) else matches.f1}
        to_find = matches.true_positives + matches.false_negatives
        return scores | ({"mask_iou": ious / to_find} if to_find else {})

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.examples))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        coco = self._coco_matches().compute(counts[:, coco_image_order(self.examples)])
        found, invented, missed, ious, malformed = (
            counts @ np.array(self.match_counts, float).reshape(-1, 5)
        ).T
        return {f"mask_{name}": values for name, values in coco.items()} | {
            "mask_precision@.5": ratio(found, found + invented),
            "mask_recall@.5": ratio(found, found + missed),
            "mask_f1@.5": ratio(2 * found, 2 * found + invented + missed),
            "mask_iou": ratio(ious, found + missed),
            "mask_iou_matched": ratio(ious, found),
            "malformed_objects": ratio(malformed, counts.sum(axis=1)),
        }

    def compute_slices(self) -> dict[str, dict[str, dict[str, float]]]:
        return object_slices(
            self.slice_counts, self._coco_matches(), category_names(self.examples), "mask_"
        )

    def _coco_matches(self) -> CocoMatches:
        """Match once, until another example comes in."""
        self._cached_matches = self._cached_matches or CocoMatches(*to_coco(self.examples), "segm")
        return self._cached_matches


def mask_overlaps(predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
    """See `detection_ap.Overlaps`. Raises TypeError where an object has no mask."""
    return _annotation_overlaps(
        [_to_coco_annotation(i) for i in predicted], [_to_coco_annotation(i) for i in reference]
    )


def _require_mask(instance: Instance) -> Mask:
    if instance.mask is None:
        raise TypeError(f"object '{instance.label}' has no mask; a segmentation metric needs one")
    return instance.mask


def _to_coco_annotation(instance: Instance) -> CocoAnnotation:
    """Write an object as COCO does; without a box, whose area would be taken for the mask's."""
    mask = _require_mask(instance)
    return {
        "label": instance.label,
        "segmentation": mask_to_json(mask),
        "area": float(np.count_nonzero(mask)),
        "iscrowd": int(instance.crowd),
        "score": 1.0 if instance.score is None else instance.score,
    }


def _annotation_overlaps(
    detections: Sequence[CocoAnnotation], ground_truths: Sequence[CocoAnnotation]
) -> Overlaps:
    from pycocotools import mask as coco_mask

    if not detections or not ground_truths:
        return [[] for _ in detections]
    outlines = (
        [entry["segmentation"] for entry in entries] for entries in (detections, ground_truths)
    )
    ious: list[list[float]] = coco_mask.iou(
        *outlines, [t["iscrowd"] for t in ground_truths]
    ).tolist()
    return ious


def _format_threshold(threshold: float) -> str:
    return f"{threshold:g}".removeprefix("0")
