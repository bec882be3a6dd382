"""Segmentation: COCO's average precision of masks, and IoUs of the masks of referring expressions.

`referring_segmentation` reports the values quoted for RefCOCO, as computed by LAVT and big_vision:
the mean of the IoUs (mIoU, gIoU), the ratio of summed intersections and unions (oIoU, cIoU), and
the share of examples above IoU thresholds. The two IoUs differ widely and are not comparable.
`segmentation` reports COCO's average precision of masks, and numbers that need no scores, as
`detection` does for boxes; their names begin with `mask_`.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from palitune.codec import masks
from palitune.metrics.base import (
    FloatArray,
    ResampleCounts,
    SummedMetric,
    predicted_objects,
    ratio,
    reference_objects,
    weighted_mean,
)
from palitune.metrics.objects.coco_matching import IouType
from palitune.metrics.objects.detection import CocoAnnotation, CocoMetric
from palitune.metrics.objects.matching import Overlaps, box_iou
from palitune.records import Example, Instance, Mask, Prediction, Size, mask_to_json

PRECISION_THRESHOLDS = {".5": 0.5, ".6": 0.6, ".7": 0.7, ".8": 0.8, ".9": 0.9}
BOX_ACCURACY_THRESHOLDS = {".5": 0.5, ".75": 0.75}


def mask_iou(a: Mask, b: Mask) -> float:
    """Return intersection over union in [0, 1] of masks of one size; 0 if both are empty."""
    union = np.count_nonzero(a | b)
    return float(np.count_nonzero(a & b) / union) if union else 0.0


class ReferringSegmentation(SummedMetric):
    """IoUs of the first predicted object with the single reference object."""

    num_statistics: ClassVar[int] = 4

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference, predicted = reference_objects(example), predicted_objects(prediction)
        if len(reference) != 1:
            raise TypeError(
                f"example {example.id} refers to {len(reference)} objects; the metric "
                "referring_segmentation needs one, segmentation takes any number"
            )
        truth, mask, box_overlap = _require_mask(reference[0]), np.zeros((1, 1), dtype=bool), 0.0
        if predicted:
            mask = _require_mask(predicted[0])
            box_overlap = box_iou(predicted[0].box, reference[0].box)
        shared, union = np.count_nonzero(truth & mask), np.count_nonzero(truth | mask)
        iou = float(shared / union) if union else 0.0
        self.statistics.append((iou, box_overlap, int(shared), int(union)))
        return {"iou": iou, "box_iou": box_overlap}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        ious, box_ious, *_ = self.columns()
        _, _, shared, union = self.sums(counts)
        return {
            "mean_iou": weighted_mean(counts, ious),
            "cumulative_iou": ratio(shared, union),
            **{
                f"precision@{name}": weighted_mean(counts, ious >= threshold)
                for name, threshold in PRECISION_THRESHOLDS.items()
            },
            **{
                f"box_accuracy@{name}": weighted_mean(counts, box_ious >= threshold)
                for name, threshold in BOX_ACCURACY_THRESHOLDS.items()
            },
        }


class Segmentation(CocoMetric):
    """COCO's numbers of masks, and the mean IoU of masks.

    `mask_iou` is the mean over the reference objects of the IoU with their match, 0 for a missed
    one; `mask_iou_matched` is the mean over the matched objects, which have an IoU of at least .5.
    """

    iou_type: ClassVar[IouType] = "segm"
    prefix: ClassVar[str] = "mask_"

    def to_annotation(self, instance: Instance) -> CocoAnnotation:
        return _to_coco_annotation(instance)

    def overlaps(self, predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
        return mask_overlaps(predicted, reference)

    def count_malformed(self, text: str, size: Size) -> int:
        return masks.parse_objects(text, size)[1]

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        scores = super().update(example, prediction)
        correct, _, missed, iou_sum, _ = self.statistics[-1]
        num_objects = correct + missed
        return scores | ({"mask_iou": iou_sum / num_objects} if num_objects else {})

    def iou_values(
        self, iou_sum: FloatArray, correct: FloatArray, missed: FloatArray
    ) -> dict[str, FloatArray]:
        return {"iou": ratio(iou_sum, correct + missed), "iou_matched": ratio(iou_sum, correct)}


def mask_overlaps(predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
    """Return mask IoU by predicted and by reference object; for a crowd the share inside.

    Raises TypeError if an object has no mask.
    """
    from pycocotools import mask as coco_mask

    detections = [_to_coco_annotation(instance) for instance in predicted]
    truths = [_to_coco_annotation(instance) for instance in reference]
    if not detections or not truths:
        return [[] for _ in detections]
    ious: list[list[float]] = coco_mask.iou(
        [detection["segmentation"] for detection in detections],
        [truth["segmentation"] for truth in truths],
        [truth["iscrowd"] for truth in truths],
    ).tolist()
    return ious


def _to_coco_annotation(instance: Instance) -> CocoAnnotation:
    """Convert an object to COCO's format, without a box, whose area would replace the mask's."""
    mask = _require_mask(instance)
    return {
        "label": instance.label,
        "segmentation": mask_to_json(mask),
        "area": float(np.count_nonzero(mask)),
        "iscrowd": int(instance.crowd),
        "score": 1.0 if instance.score is None else instance.score,
    }


def _require_mask(instance: Instance) -> Mask:
    if instance.mask is None:
        raise TypeError(f"object '{instance.label}' has no mask; a segmentation metric needs one")
    return instance.mask
