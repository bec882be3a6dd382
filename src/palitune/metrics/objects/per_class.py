"""Metrics of detection and segmentation by object class and object size."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from palitune.metrics.objects.average_precision import AREA_RANGES
from palitune.metrics.objects.coco_matching import CocoMatches
from palitune.metrics.objects.matching import MatchCounts, Overlaps, false_positives, match_pairs
from palitune.records import Instance

CLASS_ATTRIBUTE, SIZE_ATTRIBUTE = "class", "object size"

SIZE_CATEGORIES = {
    f"small (area up to {AREA_RANGES[1][1]:.0f})": "s",
    f"medium (area up to {AREA_RANGES[2][1]:.0f})": "m",
    "large": "l",
}
"""COCO's sizes, in square pixels, with their letter in `APs`, `APm` and `APl`."""

_OUTCOMES = ("true_positives", "false_positives", "false_negatives")

ObjectCounts = Counter[tuple[str, str, str]]
"""Number of objects by attribute (`class` or `object size`), its value and the outcome."""


def count_by_class_and_size(
    predicted: Sequence[Instance],
    predicted_areas: Sequence[float],
    reference: Sequence[Instance],
    reference_areas: Sequence[float],
    overlaps: Overlaps,
) -> ObjectCounts:
    """Count the objects of one image as `matching.count_matches` does, by class and size.

    A correct or missed object has the size of the reference, an invented one its own.

    Args:
        predicted: Predicted objects.
        predicted_areas: Areas of the predicted objects in square pixels.
        reference: Reference objects.
        reference_areas: Areas of the reference objects in square pixels.
        overlaps: IoU by predicted and by reference object.
    """
    matches = match_pairs(predicted, reference, overlaps)
    counts: ObjectCounts = Counter()

    def count(label: str, area: float, outcome: str) -> None:
        counts[CLASS_ATTRIBUTE, label, outcome] += 1
        counts[SIZE_ATTRIBUTE, size_category(area), outcome] += 1

    for r, (truth, area) in enumerate(zip(reference, reference_areas, strict=True)):
        if not truth.crowd:
            count(truth.label, area, "true_positives" if r in matches else "false_negatives")
    for p in false_positives(predicted, reference, overlaps, matches):
        count(predicted[p].label, predicted_areas[p], "false_positives")
    return counts


def size_category(area: float) -> str:
    """Return the size of an object; an area at a limit belongs to the smaller size."""
    small, medium, large = SIZE_CATEGORIES
    return small if area <= AREA_RANGES[1][1] else medium if area <= AREA_RANGES[2][1] else large


def object_slices(
    counts: Sequence[ObjectCounts],
    coco_matches: CocoMatches,
    labels: Sequence[str],
    prefix: str = "",
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the metrics by class, the most frequent class first, and by size.

    Args:
        counts: Object counts of each image.
        coco_matches: Matches of all images.
        labels: Labels of `coco_matches.classes`.
        prefix: Beginning of the metric names.
    """
    total: ObjectCounts = sum(counts, Counter())
    num_images = Counter(
        key
        for of_image in counts
        for key in {(a, value) for a, value, outcome in of_image if outcome != "false_positives"}
    )

    def metrics(attribute: str, value: str, ap: dict[str, float]) -> dict[str, float]:
        counted = MatchCounts(*(total[attribute, value, outcome] for outcome in _OUTCOMES))
        values = {
            "precision@.5": counted.precision,
            "recall@.5": counted.recall,
            "f1@.5": counted.f1,
        } | ap
        return {"examples": num_images[attribute, value]} | {
            f"{prefix}{name}": number for name, number in values.items()
        }

    by_label = dict(zip(labels, coco_matches.compute_per_class(), strict=True))
    frequent_first = sorted(by_label, key=lambda label: -num_images[CLASS_ATTRIBUTE, label])
    overall = {
        name: float(values[0])
        for name, values in coco_matches.compute(np.ones((1, coco_matches.num_images))).items()
    }
    return {
        CLASS_ATTRIBUTE: {
            label: metrics(CLASS_ATTRIBUTE, label, by_label[label]) for label in frequent_first
        },
        SIZE_ATTRIBUTE: {
            size: metrics(SIZE_ATTRIBUTE, size, {n: overall[n + letter] for n in ("AP", "AR")})
            for size, letter in SIZE_CATEGORIES.items()
            if num_images[SIZE_ATTRIBUTE, size]
        },
    }
