"""Detection: COCO's average precision, and precision, recall and F1 that need no scores.

`coco_ap` gives the twelve numbers of pycocotools' `COCOeval`, to rounding: AP over IoU .5:.05:.95,
AP50, AP75, by area, and average recall. A model that
writes boxes as text has no confidence of its own, so AP depends on the scores it is given; where an
object has none it counts 1.0 and objects rank in the order of their emission. `precision@.5`,
`recall@.5` and `f1@.5` (IoU .5, all classes counted together) are free of that choice.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palitune.codec import boxes
from palitune.examples import Box, Example, Instance, Prediction
from palitune.metrics.base import Counts, Floats, Metric, objects_of, ratio
from palitune.metrics.coco_matches import NUMBERS, Kind
from palitune.metrics.coco_matches import Matches as CocoMatches

COCO_NUMBERS = NUMBERS
MATCH_IOU = 0.5


def box_iou(a: Box, b: Box) -> float:
    """Return intersection over union in [0, 1]; 0 where both boxes are empty."""
    shared = _intersection(a, b)
    union = _area(a) + _area(b) - shared
    return shared / union if union > 0 else 0.0


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


@dataclass(frozen=True)
class Matches:
    """How many objects were found, invented and missed; a ratio of nothing is NaN."""

    found: int
    invented: int
    missed: int

    @property
    def precision(self) -> float:
        return _ratio(self.found, self.found + self.invented)

    @property
    def recall(self) -> float:
        return _ratio(self.found, self.found + self.missed)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.found, 2 * self.found + self.invented + self.missed)

    def __add__(self, other: "Matches") -> "Matches":
        return Matches(
            self.found + other.found, self.invented + other.invented, self.missed + other.missed
        )


def match(predicted: Sequence[Instance], reference: Sequence[Instance]) -> Matches:
    """Pair objects of the same label one to one, the best IoU first, from IoU .5 on.

    Crowd regions are ignored as in COCO: they need not be found, and a prediction that matches
    nothing else but lies at least half inside a crowd of its label is not counted as invented.
    """
    single = [instance for instance in reference if not instance.crowd]
    crowds = [instance for instance in reference if instance.crowd]
    pairs = [
        (iou, left, right)
        for left, guess in enumerate(predicted)
        for right, truth in enumerate(single)
        if guess.label == truth.label and (iou := box_iou(guess.box, truth.box)) >= MATCH_IOU
    ]
    right_guesses: set[int] = set()
    found: set[int] = set()
    for _, left, right in sorted(pairs, key=lambda pair: -pair[0]):
        if left not in right_guesses and right not in found:
            right_guesses.add(left)
            found.add(right)
    others = [guess for index, guess in enumerate(predicted) if index not in right_guesses]
    invented = sum(not any(_lies_in(guess, crowd) for crowd in crowds) for guess in others)
    return Matches(len(found), invented, len(single) - len(found))


class DetectionAP(Metric):
    """Report the COCO numbers, the score-free ones, and how much of the text could not be read.

    `malformed_objects` is the mean number per example of fragments that no box could be read from.
    """

    def __init__(self) -> None:
        self.judged: list[tuple[str, tuple[Instance, ...], tuple[Instance, ...]]] = []
        self.counted: list[tuple[int, int, int, int]] = []
        """Objects found, invented and missed and fragments malformed, of each example."""
        self._coco: CocoMatches | None = None

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = objects_of(example.reference, f"example {example.id}")
        predicted = objects_of(prediction.value or (), f"prediction {prediction.id}")
        self.judged.append((example.id, reference, predicted))
        malformed = boxes.decode(prediction.text, example.size).malformed
        matches = match(predicted, reference)
        self._coco = None
        self.counted.append((matches.found, matches.invented, matches.missed, malformed))
        return {"f1@.5": 1.0 if math.isnan(matches.f1) else matches.f1}

    def compute(self) -> dict[str, float]:
        numbers = self.weighted(np.ones((1, len(self.judged))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        self._coco = self._coco or CocoMatches(*self._as_coco())
        found, invented, missed, malformed = (
            counts @ np.array(self.counted, float).reshape(-1, 4)
        ).T
        return self._coco.numbers(counts[:, self._order()]) | {
            "precision@.5": ratio(found, found + invented),
            "recall@.5": ratio(found, found + missed),
            "f1@.5": ratio(2 * found, 2 * found + invented + missed),
            "malformed_objects": ratio(malformed, counts.sum(axis=1)),
        }

    def _order(self) -> list[int]:
        """The examples as COCO's image numbers order them: see `_as_coco`."""
        return sorted(
            range(len(self.judged)), key=lambda i: (len(self.judged[i][0]), self.judged[i][0])
        )

    def _as_coco(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Write ground truth and results as COCO does.

        Equal scores rank by image, so images are numbered by their id and not by the order in
        which they were judged. Objects of a class that no reference has are left out: COCO gives
        such a class no AP.
        """
        judged = [self.judged[index] for index in self._order()]
        labels = sorted({i.label for _, reference, _ in judged for i in reference})
        number = {label: index for index, label in enumerate(labels, start=1)}
        annotations, results = [], []
        for image, (_, reference, predicted) in enumerate(judged, start=1):
            annotations += [_annotation(instance, image, number) for instance in reference]
            results += [
                _annotation(instance, image, number)
                for instance in predicted
                if instance.label in number
            ]
        ground_truth = {
            "images": [{"id": image} for image in range(1, len(judged) + 1)],
            "categories": [{"id": index, "name": label} for label, index in number.items()],
            "annotations": annotations,
        }
        return ground_truth, results


def _annotation(instance: Instance, image: int, number: dict[str, int]) -> dict[str, Any]:
    x0, y0, x1, y1 = instance.box
    return {
        "image_id": image,
        "category_id": number[instance.label],
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": _area(instance.box) if instance.mask is None else float(instance.mask.sum()),
        "iscrowd": int(instance.crowd),
        "score": 1.0 if instance.score is None else instance.score,
    }


def _intersection(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _lies_in(guess: Instance, crowd: Instance) -> bool:
    shared = _intersection(guess.box, crowd.box)
    return guess.label == crowd.label and 0 < MATCH_IOU * _area(guess.box) <= shared


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
