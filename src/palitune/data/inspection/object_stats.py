"""What objects there are: how many of which class, how large, how many in an image."""

import re
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from palitune.metrics.objects.codec_upper_bound import MEDIUM_AREA, SMALL_AREA
from palitune.records import Box, Instance, Size

PERCENTILES = {"p5": 5, "median": 50, "p95": 95}


class ObjectStats:
    """Gather the objects of a split; regions of many objects are counted apart."""

    def __init__(self, input_size: int, patch_size: float) -> None:
        """`model_side`: pixels of the square that the model sees; `patch_side`: of one patch."""
        self.input_size = input_size
        self.patch_size = patch_size
        self.num_crowds = 0
        self.objects_per_image: Counter[int] = Counter()
        self.objects_per_class: Counter[str] = Counter()
        self.images_per_class: Counter[str] = Counter()
        self.sides_by_class: dict[str, array[float]] = {}
        """Shorter side of every box in pixels of the image, by class."""
        self.input_sides = array("f")
        """Shorter side of every box in pixels of the model's square."""
        self.area_fractions = array("f")
        """Share of the image that every box covers."""
        self.size_counts: Counter[str] = Counter()

    def add(self, instances: Iterable[Instance], size: Size) -> None:
        """Take in the objects of one image of (width, height) pixels."""
        single = []
        for instance in instances:
            if instance.crowd:
                self.num_crowds += 1
            else:
                single.append(instance)
        self.objects_per_image[len(single)] += 1
        self.images_per_class.update({instance.label for instance in single})
        for instance in single:
            self.objects_per_class[instance.label] += 1
            self._add_box(instance.label, instance.box, size)

    def _add_box(self, label: str, box: Box, size: Size) -> None:
        width, height = box[2] - box[0], box[3] - box[1]
        self.sides_by_class.setdefault(label, array("f")).append(min(width, height))
        side = min(width / size[0], height / size[1]) * self.input_size
        self.input_sides.append(side)
        self.area_fractions.append(width * height / (size[0] * size[1]))
        area = width * height
        extent = "small" if area <= SMALL_AREA else "medium" if area <= MEDIUM_AREA else "large"
        self.size_counts[extent] += 1

    def summary(self) -> dict[str, Any]:
        """Return the numbers; nothing where no image was taken in."""
        if not self.objects_per_image:
            return {}
        total = sum(self.objects_per_class.values())
        below = sum(side < self.patch_size for side in self.input_sides)
        every = [side for sides in self.sides_by_class.values() for side in sides]
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
            "shorter_side": percentiles(every),
            "shorter_side_for_the_model": percentiles(self.input_sides),
            "share_of_image": percentiles(self.area_fractions),
            "extents": {name: self.size_counts[name] for name in ("small", "medium", "large")},
            "below_a_patch": below / total if total else 0.0,
        }

    def _class_stats(self, name: str) -> dict[str, Any]:
        return {
            "objects": self.objects_per_class[name],
            "images": self.images_per_class[name],
            "shorter_side": percentiles(self.sides_by_class[name]),
        }


def percentiles(
    values: Iterable[float], percents: dict[str, int] = PERCENTILES
) -> dict[str, float]:
    """Return percentiles by name; nothing of nothing."""
    numbers = np.fromiter(values, float)
    if not numbers.size:
        return {}
    found = np.percentile(numbers, list(percents.values()))
    return {name: round(float(value), 4) for name, value in zip(percents, found, strict=True)}


def near_duplicate_labels(labels: Iterable[str]) -> list[list[str]]:
    """Return the labels that differ in case, spaces, hyphens or underscores only, together."""
    alike: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        alike.setdefault(re.sub(r"[\s_-]+", " ", label).strip().casefold(), []).append(label)
    return [group for group in alike.values() if len(group) > 1]
