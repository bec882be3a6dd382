"""Numbers of detection and segmentation by class of the object and by its size."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from palitune.metrics.objects.coco_matching import AREA_RANGES, CocoMatches
from palitune.metrics.objects.matching import MatchCounts as Found
from palitune.metrics.objects.matching import Overlaps, in_crowd, match_pairs
from palitune.records import Instance

CLASS_ATTRIBUTE, SIZE_ATTRIBUTE = "class", "object size"

SIZE_CATEGORIES = {
    f"small (area up to {AREA_RANGES[1][1]:.0f})": "s",
    f"medium (area up to {AREA_RANGES[2][1]:.0f})": "m",
    "large": "l",
}
"""COCO's sizes, in square pixels, with their letter in `APs`, `APm` and `APl`."""

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = "found", "invented", "missed"

Tally = Counter[tuple[str, str, str]]
"""How many objects: by `class` or `object size`, its value, and `found`, `invented` or `missed`."""


def count_by_class_and_size(
    predicted: Sequence[Instance],
    predicted_areas: Sequence[float],
    reference: Sequence[Instance],
    reference_areas: Sequence[float],
    overlaps: Overlaps,
) -> Tally:
    """Count what `matching.match` counts in one image by class and size of the objects.

    A found or missed object has the size of the reference, an invented one its own.
    """
    found = match_pairs(predicted, reference, overlaps)
    counted: Tally = Counter()

    def count(label: str, area: float, what: str) -> None:
        counted[CLASS_ATTRIBUTE, label, what] += 1
        counted[SIZE_ATTRIBUTE, size_category(area), what] += 1

    for right, (truth, area) in enumerate(zip(reference, reference_areas, strict=True)):
        if not truth.crowd:
            count(truth.label, area, TRUE_POSITIVE if right in found else FALSE_NEGATIVE)
    taken = set(found.values())
    for left, (guess, area) in enumerate(zip(predicted, predicted_areas, strict=True)):
        if left not in taken and not in_crowd(guess, reference, overlaps[left]):
            count(guess.label, area, FALSE_POSITIVE)
    return counted


def size_category(area: float) -> str:
    """Name the size of an object; on a border the smaller one."""
    small, medium, large = SIZE_CATEGORIES
    return small if area <= AREA_RANGES[1][1] else medium if area <= AREA_RANGES[2][1] else large


def object_slices(
    slice_counts: Sequence[Tally],
    coco_matches: CocoMatches,
    labels: Sequence[str],
    prefix: str = "",
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the numbers by class, the most frequent first, and by size.

    `labels` are those of `coco.classes`; the names of numbers begin with `prefix`.
    """
    total: Tally = sum(slice_counts, Counter())
    images = Counter(
        key
        for one in slice_counts
        for key in {(a, v) for a, v, what in one if what != FALSE_POSITIVE}
    )

    def numbers(attribute: str, value: str, ap: dict[str, float]) -> dict[str, float]:
        counts = (
            total[attribute, value, what]
            for what in (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE)
        )
        found = Found(*counts)
        free = {"precision@.5": found.precision, "recall@.5": found.recall, "f1@.5": found.f1}
        named = {f"{prefix}{name}": number for name, number in (free | ap).items()}
        return {"examples": images[attribute, value]} | named

    by_label = dict(zip(labels, coco_matches.compute_per_class(), strict=True))
    frequent = sorted(by_label, key=lambda label: -images[CLASS_ATTRIBUTE, label])
    overall = {
        name: float(v[0])
        for name, v in coco_matches.compute(np.ones((1, coco_matches.num_images))).items()
    }
    return {
        CLASS_ATTRIBUTE: {
            label: numbers(CLASS_ATTRIBUTE, label, by_label[label]) for label in frequent
        },
        SIZE_ATTRIBUTE: {
            value: numbers(SIZE_ATTRIBUTE, value, {n: overall[n + letter] for n in ("AP", "AR")})
            for value, letter in SIZE_CATEGORIES.items()
            if images[SIZE_ATTRIBUTE, value]
        },
    }
