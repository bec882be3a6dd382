"""Mean IoU of classes over all pixels of a set, of a model that writes objects with masks.

The masks of a class are one region. Where regions of two predicted classes overlap, the pixel
belongs to the one whose mask is surer (of equally sure ones the first). A pixel of the reference
that belongs to no object, or to a crowd, counts nowhere, and a class that is in no reference and
no prediction has no IoU: the rules of
`palitune.metrics.objects.semantic_iou`, which gives equal numbers.
"""

import numpy as np
import numpy.typing as npt

from palitune.metrics.base import FloatArray, Metric, ResampleCounts, ratio, require_objects
from palitune.records import Example, Instance, Prediction, Size

NO_CLASS = -1
"""Stands in a label map for a pixel of no class."""


class SemanticSegmentation(Metric):
    def __init__(self) -> None:
        self.class_ids: dict[str, int] = {}
        """Of every class that was met."""
        self.pixel_counts: list[dict[int, tuple[int, int, int]]] = []
        """Of every example, by class: pixels shared, of the reference, and predicted."""

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        truth = self._label_map(
            require_objects(example.reference, f"example {example.id}"), example.size
        )
        given = prediction.value or ()
        guess = self._label_map(require_objects(given, f"prediction {prediction.id}"), example.size)
        guess[truth == NO_CLASS] = NO_CLASS
        found = {
            number: (
                int(np.count_nonzero((truth == number) & (guess == number))),
                int(np.count_nonzero(truth == number)),
                int(np.count_nonzero(guess == number)),
            )
            for number in np.union1d(truth, guess).tolist()
            if number != NO_CLASS
        }
        self.pixel_counts.append(found)
        shares = [shared / (wanted + said - shared) for shared, wanted, said in found.values()]
        return {"semantic_iou": sum(shares) / len(shares)} if shares else {}

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.pixel_counts))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        pixels = np.zeros((len(self.pixel_counts), len(self.class_ids), 3))
        for row, found in enumerate(self.pixel_counts):
            for number, triple in found.items():
                pixels[row, number] = triple
        shared, wanted, said = np.moveaxis(np.tensordot(counts, pixels, axes=1), -1, 0)
        return {
            "semantic_iou": _mean_over_classes(ratio(shared, wanted + said - shared)),
            "semantic_accuracy": _mean_over_classes(ratio(shared, wanted)),
            "pixel_accuracy": ratio(shared.sum(axis=1), wanted.sum(axis=1)),
        }

    def _label_map(self, instances: tuple[Instance, ...], size: Size) -> npt.NDArray[np.int64]:
        """Paint the objects into a label map, (height, width), the surest last; crowds erase."""
        painted = np.full((size[1], size[0]), NO_CLASS)
        scores = [1.0 if i.score is None else i.score for i in instances]
        last_wins = sorted(
            range(len(instances)), key=lambda at: (instances[at].crowd, scores[at], -at)
        )
        for instance in (instances[at] for at in last_wins):
            if instance.mask is None:
                raise TypeError(f"object '{instance.label}' has no mask; semantic IoU needs one")
            number = self.class_ids.setdefault(instance.label, len(self.class_ids))
            painted[instance.mask] = NO_CLASS if instance.crowd else number
        return painted


def _mean_over_classes(values: FloatArray) -> FloatArray:
    """Return the mean over classes of each corpus; NaN where none is defined."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=1), defined.sum(axis=1).astype(float))
