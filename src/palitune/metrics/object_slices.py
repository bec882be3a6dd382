"""Numbers of detection and segmentation by class of the object and by its size."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from palitune.examples import Instance
from palitune.metrics.coco_matches import AREAS, Matches
from palitune.metrics.matching import Matches as Found
from palitune.metrics.matching import Overlaps, excused, pairs

CLASS, SIZE = "class", "object size"

SIZES = {
    f"small (area up to {AREAS[1][1]:.0f})": "s",
    f"medium (area up to {AREAS[2][1]:.0f})": "m",
    "large": "l",
}
"""COCO's sizes, in square pixels, with their letter in `APs`, `APm` and `APl`."""

FOUND, INVENTED, MISSED = "found", "invented", "missed"

Tally = Counter[tuple[str, str, str]]
"""How many objects: by `class` or `object size`, its value, and `found`, `invented` or `missed`."""


def tally(
    predicted: Sequence[Instance],
    predicted_areas: Sequence[float],
    reference: Sequence[Instance],
    reference_areas: Sequence[float],
    overlaps: Overlaps,
) -> Tally:
    """Count what `matching.match` counts in one image by class and size of the objects.

    A found or missed object has the size of the reference, an invented one its own.
    """
    found = pairs(predicted, reference, overlaps)
    counted: Tally = Counter()

    def count(label: str, area: float, what: str) -> None:
        counted[CLASS, label, what] += 1
        counted[SIZE, size_of(area), what] += 1

    for right, (truth, area) in enumerate(zip(reference, reference_areas, strict=True)):
        if not truth.crowd:
            count(truth.label, area, FOUND if right in found else MISSED)
    taken = set(found.values())
    for left, (guess, area) in enumerate(zip(predicted, predicted_areas, strict=True)):
        if left not in taken and not excused(guess, reference, overlaps[left]):
            count(guess.label, area, INVENTED)
    return counted


def size_of(area: float) -> str:
    """Name the size of an object; on a border the smaller one."""
    small, medium, large = SIZES
    return small if area <= AREAS[1][1] else medium if area <= AREAS[2][1] else large


def object_slices(
    tallies: Sequence[Tally], coco: Matches, labels: Sequence[str], prefix: str = ""
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the numbers by class, the most frequent first, and by size.

    `labels` are those of `coco.classes`; the names of numbers begin with `prefix`.
    """
    total: Tally = sum(tallies, Counter())
    images = Counter(
        key for one in tallies for key in {(a, v) for a, v, what in one if what != INVENTED}
    )

    def numbers(attribute: str, value: str, ap: dict[str, float]) -> dict[str, float]:
        counts = (total[attribute, value, what] for what in (FOUND, INVENTED, MISSED))
        found = Found(*counts)
        free = {"precision@.5": found.precision, "recall@.5": found.recall, "f1@.5": found.f1}
        named = {f"{prefix}{name}": number for name, number in (free | ap).items()}
        return {"examples": images[attribute, value]} | named

    by_label = dict(zip(labels, coco.numbers_of_classes(), strict=True))
    frequent = sorted(by_label, key=lambda label: -images[CLASS, label])
    overall = {name: float(v[0]) for name, v in coco.numbers(np.ones((1, coco.images))).items()}
    return {
        CLASS: {label: numbers(CLASS, label, by_label[label]) for label in frequent},
        SIZE: {
            value: numbers(SIZE, value, {n: overall[n + letter] for n in ("AP", "AR")})
            for value, letter in SIZES.items()
            if images[SIZE, value]
        },
    }
