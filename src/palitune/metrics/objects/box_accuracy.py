"""Box accuracy of referring expressions: share of boxes with IoU at least .5 or .75, and mean IoU.

Each example has one reference box and is scored by the first box of its prediction; a prediction
without a box counts as IoU 0. Accuracy at .5 is the "accuracy" of RefCOCO's papers.
"""

from typing import ClassVar

from palitune.metrics.base import (
    FloatArray,
    ResampleCounts,
    SummedMetric,
    predicted_objects,
    reference_objects,
    weighted_mean,
)
from palitune.metrics.objects.matching import box_iou
from palitune.records import Example, Prediction


class BoxAccuracy(SummedMetric):
    num_statistics: ClassVar[int] = 1

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference, predicted = reference_objects(example), predicted_objects(prediction)
        iou = box_iou(predicted[0].box, reference[0].box) if predicted and reference else 0.0
        self.statistics.append((iou,))
        return {"box_iou": iou}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        (ious,) = self.columns()
        return {
            "box_accuracy@.5": weighted_mean(counts, ious >= 0.5),
            "box_accuracy@.75": weighted_mean(counts, ious >= 0.75),
            "box_iou": weighted_mean(counts, ious),
        }
