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
from palitune.examples import Example, Instance, Prediction, Size
from palitune.metrics.base import Counts, Floats, Metric, objects_of, ratio
from palitune.metrics.coco_matches import NUMBERS, Kind
from palitune.metrics.coco_matches import Matches as CocoMatches
from palitune.metrics.matching import box_area, box_overlaps, match
from palitune.metrics.object_slices import Tally, object_slices, tally

COCO_NUMBERS = NUMBERS


def coco_ap(
    ground_truth: dict[str, Any], results: list[dict[str, Any]], kind: Kind = "bbox"
) -> dict[str, float]:
    """Return the twelve COCO numbers; NaN where the ground truth holds nothing to find.

    `ground_truth` is COCO's annotation file, `results` its result list, both as read from JSON and
    left as they are. A missing `area` is the box's.
    Raises ValueError where a result names an image that the ground truth does not have.
    """
    matches = CocoMatches(ground_truth, results, kind)
    numbers = matches.numbers(np.ones((1, matches.images)))
    return {name: float(value[0]) for name, value in numbers.items()}


Annotation = dict[str, Any]
"""An object as COCO writes it, with its `label` and neither image nor category."""


@dataclass(frozen=True)
class Judged:
    """What COCO's numbers need of one example."""

    id: str
    size: Size
    reference: list[Annotation]
    predicted: list[Annotation]


def order_of(judged: Sequence[Judged]) -> list[int]:
    """Return the places of the examples in the order of COCO's image numbers: see `as_coco`."""
    return sorted(range(len(judged)), key=lambda i: (len(judged[i].id), judged[i].id))


def labels_of(judged: Sequence[Judged]) -> list[str]:
    """Return the classes of the references, in the order of their numbers in `as_coco`."""
    return sorted({entry["label"] for example in judged for entry in example.reference})


def as_coco(judged: Sequence[Judged]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write ground truth and results as COCO does.

    Equal scores rank by image, so images are numbered by their id and not by the order in which
    they were judged. Objects of a class that no reference has are left out: COCO gives such a
    class no AP.
    """
    ordered = [judged[index] for index in order_of(judged)]
    number = {label: index for index, label in enumerate(labels_of(judged), start=1)}
    annotations: list[Annotation] = []
    results: list[Annotation] = []
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
        self.judged: list[Judged] = []
        self.counted: list[tuple[int, int, int, int]] = []
        """Objects found, invented and missed and fragments malformed, of each example."""
        self.tallies: list[Tally] = []
        self._coco: CocoMatches | None = None

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = objects_of(example.reference, f"example {example.id}")
        predicted = objects_of(prediction.value or (), f"prediction {prediction.id}")
        truths = [_annotation(instance) for instance in reference]
        guesses = [_annotation(instance) for instance in predicted]
        self.judged.append(Judged(example.id, example.size, truths, guesses))
        malformed = boxes.decode(prediction.text, example.size).malformed
        overlaps = box_overlaps(predicted, reference)
        matches = match(predicted, reference, overlaps)
        areas = ([entry["area"] for entry in entries] for entries in (guesses, truths))
        self.tallies.append(tally(predicted, next(areas), reference, next(areas), overlaps))
        self._coco = None
        self.counted.append((matches.found, matches.invented, matches.missed, malformed))
        return {"f1@.5": 1.0 if math.isnan(matches.f1) else matches.f1}

    def compute(self) -> dict[str, float]:
        numbers = self.weighted(np.ones((1, len(self.judged))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        found, invented, missed, malformed = (
            counts @ np.array(self.counted, float).reshape(-1, 4)
        ).T
        return self._matched().numbers(counts[:, order_of(self.judged)]) | {
            "precision@.5": ratio(found, found + invented),
            "recall@.5": ratio(found, found + missed),
            "f1@.5": ratio(2 * found, 2 * found + invented + missed),
            "malformed_objects": ratio(malformed, counts.sum(axis=1)),
        }

    def slices(self) -> dict[str, dict[str, dict[str, float]]]:
        return object_slices(self.tallies, self._matched(), labels_of(self.judged))

    def _matched(self) -> CocoMatches:
        """Match once, until another example comes in."""
        self._coco = self._coco or CocoMatches(*as_coco(self.judged))
        return self._coco


def _annotation(instance: Instance) -> Annotation:
    x0, y0, x1, y1 = instance.box
    return {
        "label": instance.label,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": box_area(instance.box) if instance.mask is None else float(instance.mask.sum()),
        "iscrowd": int(instance.crowd),
        "score": 1.0 if instance.score is None else instance.score,
    }
