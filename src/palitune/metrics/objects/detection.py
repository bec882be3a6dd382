"""Detection: COCO's average precision, and precision, recall and F1 that need no scores.

`coco_ap` gives the twelve numbers of pycocotools' `COCOeval`, up to rounding: AP over IoU
.5:.05:.95, AP50, AP75, AP by area, and average recall. A model that writes boxes as text has no
confidence scores of its own, so AP depends on the scores assigned to its objects; a missing score
counts as 1.0, and such objects rank in the order of generation. `precision@.5`, `recall@.5` and
`f1@.5` (IoU .5, all classes counted together) do not depend on scores.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from palitune.codec import boxes
from palitune.metrics.base import (
    FloatArray,
    ResampleCounts,
    SummedMetric,
    predicted_objects,
    ratio,
    reference_objects,
)
from palitune.metrics.objects.coco_matching import CocoMatches, IouType
from palitune.metrics.objects.matching import (
    Overlaps,
    box_area,
    box_overlaps,
    count_matches,
    match_pairs,
)
from palitune.metrics.objects.per_class import ObjectCounts, count_by_class_and_size, object_slices
from palitune.records import Example, Instance, Prediction, Size


def coco_ap(
    ground_truth: dict[str, Any], results: list[dict[str, Any]], kind: IouType = "bbox"
) -> dict[str, float]:
    """Return the twelve COCO numbers; NaN if the ground truth has no objects.

    Args:
        ground_truth: Annotation file of COCO, as parsed from JSON; it is not modified. A missing
            `area` is the area of the box.
        results: Result list of COCO, as parsed from JSON; it is not modified.
        kind: Boxes or masks.

    Raises:
        ValueError: A result refers to an image that is not in the ground truth.
    """
    matches = CocoMatches(ground_truth, results, kind)
    numbers = matches.compute(np.ones((1, matches.num_images)))
    return {name: float(values[0]) for name, values in numbers.items()}


CocoAnnotation = dict[str, Any]
"""An object in COCO's format, with its `label` instead of image and category."""


@dataclass(frozen=True)
class CocoExample:
    """One example in COCO's format."""

    id: str
    size: Size
    reference: list[CocoAnnotation]
    predicted: list[CocoAnnotation]


def coco_image_order(examples: Sequence[CocoExample]) -> list[int]:
    """Return the indices of the examples in the order of their image ids in `to_coco`."""
    return sorted(range(len(examples)), key=lambda i: (len(examples[i].id), examples[i].id))


def category_names(examples: Sequence[CocoExample]) -> list[str]:
    """Return the classes of the references in the order of their category ids in `to_coco`."""
    return sorted({entry["label"] for example in examples for entry in example.reference})


def to_coco(examples: Sequence[CocoExample]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Convert examples to COCO's annotation file and result list.

    Equal scores rank by image, so images are numbered by example id, not in the order of scoring.
    Objects of a class without reference objects are left out: COCO has no AP for such a class.
    """
    ordered = [examples[index] for index in coco_image_order(examples)]
    category_ids = {label: index for index, label in enumerate(category_names(examples), start=1)}
    annotations: list[CocoAnnotation] = []
    results: list[CocoAnnotation] = []
    for image, example in enumerate(ordered, start=1):
        for target, entries in ((annotations, example.reference), (results, example.predicted)):
            target += [
                entry | {"image_id": image, "category_id": category_ids[entry["label"]]}
                for entry in entries
                if entry["label"] in category_ids
            ]
    ground_truth = {
        "images": [
            {"id": image, "width": example.size[0], "height": example.size[1]}
            for image, example in enumerate(ordered, start=1)
        ],
        "categories": [{"id": index, "name": label} for label, index in category_ids.items()],
        "annotations": annotations,
    }
    return ground_truth, results


class CocoMetric(SummedMetric):
    """COCO's numbers, the numbers without scores, and the malformed part of the generated text.

    `malformed_objects` is the mean number per example of fragments that are no valid object.
    """

    num_statistics: ClassVar[int] = 5
    iou_type: ClassVar[IouType]
    prefix: ClassVar[str]
    """Beginning of the metric names."""

    def __init__(self) -> None:
        super().__init__()
        self.examples: list[CocoExample] = []
        self.object_counts: list[ObjectCounts] = []
        self._cached_matches: CocoMatches | None = None

    @abstractmethod
    def to_annotation(self, instance: Instance) -> CocoAnnotation:
        """Convert an object to COCO's format."""

    @abstractmethod
    def overlaps(self, predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
        """Return IoU by predicted and by reference object; for a crowd the share inside."""

    @abstractmethod
    def count_malformed(self, text: str, size: Size) -> int:
        """Count the fragments of a generated text that are no valid object."""

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference, predicted = reference_objects(example), predicted_objects(prediction)
        truths = [self.to_annotation(instance) for instance in reference]
        detections = [self.to_annotation(instance) for instance in predicted]
        self.examples.append(CocoExample(example.id, example.size, truths, detections))
        self._cached_matches = None
        overlaps = self.overlaps(predicted, reference)
        self.object_counts.append(
            count_by_class_and_size(
                predicted,
                [detection["area"] for detection in detections],
                reference,
                [truth["area"] for truth in truths],
                overlaps,
            )
        )
        counts = count_matches(predicted, reference, overlaps)
        iou_sum = sum(
            overlaps[p][r] for r, p in match_pairs(predicted, reference, overlaps).items()
        )
        self.statistics.append(
            (
                counts.true_positives,
                counts.false_positives,
                counts.false_negatives,
                iou_sum,
                self.count_malformed(prediction.text, example.size),
            )
        )
        return {f"{self.prefix}f1@.5": 1.0 if math.isnan(counts.f1) else counts.f1}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        coco = self._coco_matches().compute(counts[:, coco_image_order(self.examples)])
        correct, invented, missed, iou_sum, malformed = self.sums(counts)
        values = coco | {
            "precision@.5": ratio(correct, correct + invented),
            "recall@.5": ratio(correct, correct + missed),
            "f1@.5": ratio(2 * correct, 2 * correct + invented + missed),
            **self.iou_values(iou_sum, correct, missed),
        }
        return {f"{self.prefix}{name}": value for name, value in values.items()} | {
            "malformed_objects": ratio(malformed, counts.sum(axis=1))
        }

    def iou_values(
        self, iou_sum: FloatArray, correct: FloatArray, missed: FloatArray
    ) -> dict[str, FloatArray]:
        """Return further values from the summed IoUs of the matches, (corpora,) by name."""
        return {}

    def compute_slices(self) -> dict[str, dict[str, dict[str, float]]]:
        return object_slices(
            self.object_counts, self._coco_matches(), category_names(self.examples), self.prefix
        )

    def _coco_matches(self) -> CocoMatches:
        """Match once until the next update."""
        if self._cached_matches is None:
            self._cached_matches = CocoMatches(*to_coco(self.examples), self.iou_type)
        return self._cached_matches


class DetectionAP(CocoMetric):
    iou_type: ClassVar[IouType] = "bbox"
    prefix: ClassVar[str] = ""

    def to_annotation(self, instance: Instance) -> CocoAnnotation:
        x0, y0, x1, y1 = instance.box
        return {
            "label": instance.label,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": box_area(instance.box) if instance.mask is None else float(instance.mask.sum()),
            "iscrowd": int(instance.crowd),
            "score": 1.0 if instance.score is None else instance.score,
        }

    def overlaps(self, predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
        return box_overlaps(predicted, reference)

    def count_malformed(self, text: str, size: Size) -> int:
        return boxes.decode(text, size).malformed
