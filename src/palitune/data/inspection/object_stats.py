"""Object statistics: classes, sizes and objects per image."""

import re
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from palitune.metrics.objects.codec_upper_bound import MEDIUM_AREA, SMALL_AREA
from palitune.records import Box, Instance, Size

GRID = 24
"""Cells on each side of the maps of centers and sizes."""
PERCENTILES = {"p5": 5, "median": 50, "p95": 95}


class ObjectStats:
    """Statistics of the objects of a split; crowds are only counted.

    Args:
        input_size: Side of the model's input in pixels.
        patch_size: Side of one patch of it in pixels.
    """

    def __init__(self, input_size: int, patch_size: float) -> None:
        self.input_size = input_size
        self.patch_size = patch_size
        self.num_crowds = 0
        self.objects_per_image: Counter[int] = Counter()
        self.objects_per_class: Counter[str] = Counter()
        self.images_per_class: Counter[str] = Counter()
        self.sides_by_class: dict[str, array[float]] = {}
        """Shorter side of each box in pixels of the image, by class."""
        self.input_sides = array("f")
        """Shorter side of each box in pixels of the model's input."""
        self.area_fractions = array("f")
        """Area of each box as a fraction of the image."""
        self.size_counts: Counter[str] = Counter()
        self.centers = np.zeros((GRID, GRID), np.int64)
        """Objects by the center of their box, from the upper left corner of the image."""
        self.extents = np.zeros((GRID, GRID), np.int64)
        """Objects by height (rows, the highest first) and width (columns) of their box."""

    def add(self, instances: Iterable[Instance], size: Size) -> None:
        """Add the objects of one image of (width, height) pixels."""
        instances = list(instances)
        objects = [instance for instance in instances if not instance.crowd]
        self.num_crowds += len(instances) - len(objects)
        self.objects_per_image[len(objects)] += 1
        self.images_per_class.update({instance.label for instance in objects})
        for instance in objects:
            self.objects_per_class[instance.label] += 1
            self._add_box(instance.label, instance.box, size)

    def _add_box(self, label: str, box: Box, size: Size) -> None:
        width, height = box[2] - box[0], box[3] - box[1]
        self.sides_by_class.setdefault(label, array("f")).append(min(width, height))
        side = min(width / size[0], height / size[1]) * self.input_size
        self.input_sides.append(side)
        self.area_fractions.append(width * height / (size[0] * size[1]))
        x, y = (box[0] + box[2]) / 2 / size[0], (box[1] + box[3]) / 2 / size[1]
        self.centers[_cell(y), _cell(x)] += 1
        self.extents[GRID - 1 - _cell(height / size[1]), _cell(width / size[0])] += 1
        area = width * height
        extent = "small" if area <= SMALL_AREA else "medium" if area <= MEDIUM_AREA else "large"
        self.size_counts[extent] += 1

    def summary(self) -> dict[str, Any]:
        """Return the statistics as JSON; empty without images."""
        if not self.objects_per_image:
            return {}
        total = sum(self.objects_per_class.values())
        below = sum(side < self.patch_size for side in self.input_sides)
        sides = [side for of_class in self.sides_by_class.values() for side in of_class]
        return {
            "objects": total,
            "crowds": self.num_crowds,
            "empty_images": self.objects_per_image[0],
            "per_image": {
                str(count): self.objects_per_image[count]
                for count in sorted(self.objects_per_image)
            },
            "classes": {
                name: self._class_stats(name) for name, _ in self.objects_per_class.most_common()
            },
            "shorter_side": percentiles(sides),
            "shorter_side_for_the_model": percentiles(self.input_sides),
            "share_of_image": percentiles(self.area_fractions),
            "extents": {name: self.size_counts[name] for name in ("small", "medium", "large")},
            "below_a_patch": below / total if total else 0.0,
            "centers": self.centers.tolist(),
            "widths_and_heights": self.extents.tolist(),
        }

    def _class_stats(self, name: str) -> dict[str, Any]:
        return {
            "objects": self.objects_per_class[name],
            "images": self.images_per_class[name],
            "shorter_side": percentiles(self.sides_by_class[name]),
        }


def _cell(fraction: float) -> int:
    """Return the cell of a fraction of the image's side."""
    return min(max(int(fraction * GRID), 0), GRID - 1)


def percentiles(
    values: Iterable[float], percents: dict[str, int] = PERCENTILES
) -> dict[str, float]:
    """Return percentiles by name; empty without values."""
    numbers = np.fromiter(values, float)
    if not numbers.size:
        return {}
    results = np.percentile(numbers, list(percents.values()))
    return {name: round(float(value), 4) for name, value in zip(percents, results, strict=True)}


def near_duplicate_labels(labels: Iterable[str]) -> list[list[str]]:
    """Group labels that differ only in case, spaces, hyphens or underscores."""
    groups: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        groups.setdefault(re.sub(r"[\s_-]+", " ", label).strip().casefold(), []).append(label)
    return [group for group in groups.values() if len(group) > 1]
