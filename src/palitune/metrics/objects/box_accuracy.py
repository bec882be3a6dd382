"""Referring expressions: the share of boxes with an IoU of at least .5 (and .75), and the mean IoU.

Each example has one true box and is judged by the first box of its prediction; none counts as an
IoU of 0. Accuracy at .5 is what RefCOCO's papers report as "accuracy".
"""

import numpy as np

from palitune.metrics.base import FloatArray, Metric, ResampleCounts, require_objects, weighted_mean
from palitune.metrics.objects.matching import box_iou
from palitune.records import Example, Prediction


class BoxAccuracy(Metric):
    def __init__(self) -> None:
        self.ious: list[float] = []

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = require_objects(example.reference, f"example {example.id}")
        predicted = require_objects(prediction.value or (), f"prediction {prediction.id}")
        both = bool(predicted and reference)
        self.ious.append(box_iou(predicted[0].box, reference[0].box) if both else 0.0)
        return {"box_iou": self.ious[-1]}

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.ious))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        return {
            "box_accuracy@.5": weighted_mean(counts, [iou >= 0.5 for iou in self.ious]),
            "box_accuracy@.75": weighted_mean(counts, [iou >= 0.75 for iou in self.ious]),
            "box_iou": weighted_mean(counts, self.ious),
        }
