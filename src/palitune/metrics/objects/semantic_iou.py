"""Semantic IoU: mean IoU of classes over all pixels of a data set, as in mmsegmentation.

The masks of a class form one region. If the regions of two predicted classes overlap, the pixel
belongs to the mask with the higher score, to the first one if the scores are equal. A reference
pixel without an object, or inside a crowd, is ignored. A class that is in no reference and in no
prediction is left out of the mean (mmsegmentation's rule; the scripts of ADE20K's authors count it
as 0, which makes the mean much lower).
"""

import numpy as np
import numpy.typing as npt

from palitune.metrics.base import (
    FloatArray,
    Metric,
    ResampleCounts,
    mean_of_defined,
    predicted_objects,
    ratio,
    reference_objects,
)
from palitune.records import Example, Instance, Prediction, Size

NO_CLASS = -1
"""Label of a pixel without a class."""


class SemanticSegmentation(Metric):
    def __init__(self) -> None:
        self.class_ids: dict[str, int] = {}
        self.pixel_counts: list[dict[int, tuple[int, int, int]]] = []
        """Per example, by class id: pixels of the intersection, the reference, the prediction."""

    @property
    def num_examples(self) -> int:
        return len(self.pixel_counts)

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        truth = self._label_map(reference_objects(example), example.size)
        predicted = self._label_map(predicted_objects(prediction), example.size)
        predicted[truth == NO_CLASS] = NO_CLASS
        pixels = {
            class_id: (
                int(np.count_nonzero((truth == class_id) & (predicted == class_id))),
                int(np.count_nonzero(truth == class_id)),
                int(np.count_nonzero(predicted == class_id)),
            )
            for class_id in np.union1d(truth, predicted).tolist()
            if class_id != NO_CLASS
        }
        self.pixel_counts.append(pixels)
        ious = [
            shared / (in_truth + in_prediction - shared)
            for shared, in_truth, in_prediction in pixels.values()
        ]
        return {"semantic_iou": sum(ious) / len(ious)} if ious else {}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        pixels = np.zeros((len(self.pixel_counts), len(self.class_ids), 3))
        for row, by_class in enumerate(self.pixel_counts):
            for class_id, numbers in by_class.items():
                pixels[row, class_id] = numbers
        shared, truth, predicted = np.moveaxis(np.tensordot(counts, pixels, axes=1), -1, 0)
        return {
            "semantic_iou": mean_of_defined(ratio(shared, truth + predicted - shared), axis=1),
            "semantic_accuracy": mean_of_defined(ratio(shared, truth), axis=1),
            "pixel_accuracy": ratio(shared.sum(axis=1), truth.sum(axis=1)),
        }

    def _label_map(self, instances: tuple[Instance, ...], size: Size) -> npt.NDArray[np.int64]:
        """Return the class id of each pixel, (height, width); crowds erase all objects."""
        label_map = np.full((size[1], size[0]), NO_CLASS)
        scores = [1.0 if i.score is None else i.score for i in instances]
        last_wins = sorted(range(len(instances)), key=lambda i: (instances[i].crowd, scores[i], -i))
        for instance in (instances[index] for index in last_wins):
            if instance.mask is None:
                raise TypeError(f"object '{instance.label}' has no mask; semantic_iou needs one")
            class_id = self.class_ids.setdefault(instance.label, len(self.class_ids))
            label_map[instance.mask] = NO_CLASS if instance.crowd else class_id
        return label_map
