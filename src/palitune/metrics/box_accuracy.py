"""Referring expressions: the share of boxes with an IoU of at least .5 (and .75), and the mean IoU.

Each example has one true box and is judged by the first box of its prediction; none counts as an
IoU of 0. Accuracy at .5 is what RefCOCO's papers report as "accuracy".
"""

import numpy as np

from palitune.examples import Example, Prediction
from palitune.metrics.base import Counts, Floats, Metric, objects_of, weighted_mean
from palitune.metrics.matching import box_iou


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
        numbers = self.weighted(np.ones((1, len(self.overlaps))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        return {
            "box_accuracy@.5": weighted_mean(counts, [iou >= 0.5 for iou in self.overlaps]),
            "box_accuracy@.75": weighted_mean(counts, [iou >= 0.75 for iou in self.overlaps]),
            "box_iou": weighted_mean(counts, self.overlaps),
        }
