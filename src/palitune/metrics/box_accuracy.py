"""Referring expressions: the share of boxes with an IoU of at least .5 (and .75), and the mean IoU.

Each example has one true box and is judged by the first box of its prediction; none counts as an
IoU of 0. Accuracy at .5 is what RefCOCO's papers report as "accuracy".
"""

import math

from palitune.examples import Example, Prediction
from palitune.metrics.base import Metric, objects_of
from palitune.metrics.detection_ap import box_iou


class BoxAccuracy(Metric):
    def __init__(self) -> None:
        self.overlaps: list[float] = []

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = objects_of(example.reference, f"example {example.id}")
        predicted = objects_of(prediction.value or (), f"prediction {prediction.id}")
        both = bool(predicted and reference)
        self.overlaps.append(box_iou(predicted[0].box, reference[0].box) if both else 0.0)
        return {"box_iou": self.overlaps[-1]}

    def compute(self) -> dict[str, float]:
        count = len(self.overlaps)
        if not count:
            return dict.fromkeys(("box_accuracy@.5", "box_accuracy@.75", "box_iou"), math.nan)
        return {
            "box_accuracy@.5": sum(iou >= 0.5 for iou in self.overlaps) / count,
            "box_accuracy@.75": sum(iou >= 0.75 for iou in self.overlaps) / count,
            "box_iou": sum(self.overlaps) / count,
        }
