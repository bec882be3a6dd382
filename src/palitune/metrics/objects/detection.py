"""Detection: COCO's average precision, and precision, recall and F1 that need no scores.

`coco_ap` gives the twelve numbers of pycocotools' `COCOeval`, to rounding: AP over IoU .5:.05:.95,
AP50, AP75, by area, and average recall. A model that writes boxes as text has no confidence of its
own, so AP depends on the scores it is given; where an object has none it counts 1.0 and objects
rank in the order of their emission. `precision@.5`,
`recall@.5` and `f1@.5` (IoU .5, all classes counted together) are free of that choice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palitune.codec import boxes
from palitune.metrics.base import FloatArray, Metric, ResampleCounts, ratio, require_objects
from palitune.metrics.objects.coco_matching import STAT_NAMES, IouType
from palitune.metrics.objects.coco_matching import CocoMatches as CocoMatches
from palitune.metrics.objects.matching import box_area, box_overlaps, count_matches
from palitune.metrics.objects.per_class import Tally, count_by_class_and_size, object_slices
from palitune.records import Example, Instance, Prediction, Size

COCO_STAT_NAMES = STAT_NAMES


def coco_ap(
    ground_truth: dict[str, Any], results: list[dict[str, Any]], kind: IouType = "bbox"
) -> dict[str, float]:
    """Return the twelve COCO numbers; NaN where the ground truth holds nothing to find.

    `ground_truth` is COCO's annotation file, `results` its result list, both as read from JSON and
    left as they are. A missing `area` is the box's.
    Raises ValueError where a result names an image that the ground truth does not have.
    """
    matches = CocoMatches(ground_truth, results, kind)
    numbers = matches.compute(np.ones((1, matches.num_images)))
    return {name: float(value[0]) for name, value in numbers.items()}


CocoAnnotation = dict[str, Any]
"""An object as COCO writes it, with its `label` and neither image nor category."""


@dataclass(frozen=True)
class CocoExample:
    """What COCO's numbers need of one example."""

    id: str
    size: Size
    reference: list[CocoAnnotation]
    predicted: list[CocoAnnotation]


def coco_image_order(examples: Sequence[CocoExample]) -> list[int]:
    """Return the places of the examples in the order of COCO's image numbers: see `as_coco`."""
    return sorted(range(len(examples)), key=lambda i: (len(examples[i].id), examples[i].id))


def category_names(examples: Sequence[CocoExample]) -> list[str]:
    """Return the classes of the references, in the order of their numbers in `as_coco`."""
    return sorted({entry["label"] for example in examples for entry in example.reference})


def to_coco(examples: Sequence[CocoExample]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write ground truth and results as COCO does.

    Equal scores rank by image, so images are numbered by their id and not by the order in which
    they were judged. Objects of a class that no reference has are left out: COCO gives such a
    class no AP.
    """
    ordered = [examples[index] for index in coco_image_order(examples)]
    number = {label: index for index, label in enumerate(category_names(examples), start=1)}
    annotations: list[CocoAnnotation] = []
    results: list[CocoAnnotation] = []
    for image, example in enumerate(ordered, start=1):
        for found, entries in ((annotations, example.reference), (results, example.predicted)):
            found += [
                entry | {"image_id": image, "category_id": number[entry["label"]]}
                for entry in entries
                if entry["label"] in number
            ]
    ground_truth = {
        "images": [
            {"id": image, "width": example.size[0], "height": example.size[1]}
            for image, example in enumerate(ordered, start=1)
        ],
        "categories": [{"id": index, "name": label} for label, index in number.items()],
        "annotations": annotations,
    }
    return ground_truth, results


class DetectionAP(Metric):
    """Report the COCO numbers, the score-free ones, and how much of the text could not be read.

    `malformed_objects` is the mean number per example of fragments that no box could be read from.
    """

    def __init__(self) -> None:
        self.examples: list[CocoExample] = []
        self.match_counts: list[tuple[int, int, int, int]] = []
        """Objects found, invented and missed and fragments malformed, of each example."""
        self.slice_counts: list[Tally] = []
        self._cached_matches: CocoMatches | None = None

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = require_objects(example.reference, f"example {example.id}")
        predicted = require_objects(prediction.value or (), f"prediction {prediction.id}")
        truths = [_to_coco_annotation(instance) for instance in reference]
        guesses = [_to_coco_annotation(instance) for instance in predicted]
        self.examples.append(CocoExample(example.id, example.size, truths, guesses))
        malformed = boxes.decode(prediction.text, example.size).malformed
        overlaps = box_overlaps(predicted, reference)
        matches = count_matches(predicted, reference, overlaps)
        areas = ([entry["area"] for entry in entries] for entries in (guesses, truths))
        self.slice_counts.append(
            count_by_class_and_size(predicted, next(areas), reference, next(areas), overlaps)
        )
        self._cached_matches = None
        self.match_counts.append(
            (matches.true_positives, matches.false_positives, matches.false_negatives, malformed)
        )
        return {"f1@.5": 1.0 if math.isnan(matches.f1) else matches.f1}

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.examples))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        found, invented, missed, malformed = (
            counts @ np.array(self.match_counts, float).reshape(-1, 4)
        ).T
        return self._coco_matches().compute(counts[:, coco_image_order(self.examples)]) | {
            "precision@.5": ratio(found, found + invented),
            "recall@.5": ratio(found, found + missed),
            "f1@.5": ratio(2 * found, 2 * found + invented + missed),
            "malformed_objects": ratio(malformed, counts.sum(axis=1)),
        }

    def compute_slices(self) -> dict[str, dict[str, dict[str, float]]]:
        return object_slices(self.slice_counts, self._coco_matches(), category_names(self.examples))

    def _coco_matches(self) -> CocoMatches:
        """Match once, until another example comes in."""
        self._cached_matches = self._cached_matches or CocoMatches(*to_coco(self.examples))
        return self._cached_matches


def _to_coco_annotation(instance: Instance) -> CocoAnnotation:
    x0, y0, x1, y1 = instance.box
    return {
        "label": instance.label,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": box_area(instance.box) if instance.mask is None else float(instance.mask.sum()),
        "iscrowd": int(instance.crowd),
        "score": 1.0 if instance.score is None else instance.score,
    }
