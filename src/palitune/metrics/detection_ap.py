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
from palitune.examples import Box, Example, Instance, Prediction, Size
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


Overlaps = Sequence[Sequence[float]]
"""By predicted and by reference object: their IoU, or what share of the former lies in a crowd."""


def box_overlaps(predicted: Sequence[Instance], reference: Sequence[Instance]) -> Overlaps:
    return [
        [_share(g.box, t.box) if t.crowd else box_iou(g.box, t.box) for t in reference]
        for g in predicted
    ]


def pairs(
    predicted: Sequence[Instance], reference: Sequence[Instance], overlaps: Overlaps
) -> dict[int, int]:
    """Pair objects of the same label one to one, the best IoU first, from IoU .5 on.

    Returns the index of the predicted object by that of the reference; a crowd is in no pair.
    """
    candidates = [
        (overlaps[left][right], left, right)
        for left, guess in enumerate(predicted)
        for right, truth in enumerate(reference)
        if guess.label == truth.label and not truth.crowd and overlaps[left][right] >= MATCH_IOU
    ]
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, left, right in sorted(candidates, key=lambda candidate: -candidate[0]):
        if left not in taken and right not in found:
            taken.add(left)
            found[right] = left
    return found


def match(
    predicted: Sequence[Instance],
    reference: Sequence[Instance],
    overlaps: Overlaps | None = None,
) -> Matches:
    """Count what `pairs` finds, and what is left over; `overlaps` are those of the boxes if None.

    Crowd regions are ignored as in COCO: they need not be found, and a prediction that matches
    nothing else but lies at least half inside a crowd of its label is not counted as invented.
    """
    overlaps = box_overlaps(predicted, reference) if overlaps is None else overlaps
    found = pairs(predicted, reference, overlaps)
    crowds = [index for index, truth in enumerate(reference) if truth.crowd]
    invented = sum(
        not any(
            reference[crowd].label == guess.label and overlaps[left][crowd] >= MATCH_IOU
            for crowd in crowds
        )
        for left, guess in enumerate(predicted)
        if left not in found.values()
    )
    return Matches(len(found), invented, len(reference) - len(crowds) - len(found))


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


def as_coco(judged: Sequence[Judged]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write ground truth and results as COCO does.

    Equal scores rank by image, so images are numbered by their id and not by the order in which
    they were judged. Objects of a class that no reference has are left out: COCO gives such a
    class no AP.
    """
    ordered = [judged[index] for index in order_of(judged)]
    labels = sorted({entry["label"] for example in ordered for entry in example.reference})
    number = {label: index for index, label in enumerate(labels, start=1)}
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
        self._coco: CocoMatches | None = None

    def update(self, example: Example, prediction: Prediction) -> dict[str, float]:
        reference = objects_of(example.reference, f"example {example.id}")
        predicted = objects_of(prediction.value or (), f"prediction {prediction.id}")
        annotations = (
            [_annotation(instance) for instance in side] for side in (reference, predicted)
        )
        self.judged.append(Judged(example.id, example.size, *annotations))
        malformed = boxes.decode(prediction.text, example.size).malformed
        matches = match(predicted, reference)
        self._coco = None
        self.counted.append((matches.found, matches.invented, matches.missed, malformed))
        return {"f1@.5": 1.0 if math.isnan(matches.f1) else matches.f1}

    def compute(self) -> dict[str, float]:
        numbers = self.weighted(np.ones((1, len(self.judged))))
        return {name: float(values[0]) for name, values in numbers.items()}

    def weighted(self, counts: Counts) -> dict[str, Floats]:
        self._coco = self._coco or CocoMatches(*as_coco(self.judged))
        found, invented, missed, malformed = (
            counts @ np.array(self.counted, float).reshape(-1, 4)
        ).T
        return self._coco.numbers(counts[:, order_of(self.judged)]) | {
            "precision@.5": ratio(found, found + invented),
            "recall@.5": ratio(found, found + missed),
            "f1@.5": ratio(2 * found, 2 * found + invented + missed),
            "malformed_objects": ratio(malformed, counts.sum(axis=1)),
        }


def _annotation(instance: Instance) -> Annotation:
    x0, y0, x1, y1 = instance.box
    return {
        "label": instance.label,
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


def _share(guess: Box, crowd: Box) -> float:
    """What share of a box lies in a crowd's; 0 for a box without extent."""
    return _intersection(guess, crowd) / _area(guess) if _area(guess) > 0 else 0.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
