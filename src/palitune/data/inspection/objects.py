"""What objects there are: how many of which class, how large, how many in an image."""

import re
from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from palitune.examples import Box, Instance, Size
from palitune.metrics.mask_ceiling import MEDIUM, SMALL

PERCENTILES = {"p5": 5, "median": 50, "p95": 95}


class Objects:
    """Gather the objects of a split; regions of many objects are counted apart."""

    def __init__(self, model_side: int, patch_side: float) -> None:
        """`model_side`: pixels of the square that the model sees; `patch_side`: of one patch."""
        self.model_side = model_side
        self.patch_side = patch_side
        self.crowds = 0
        self.per_image: Counter[int] = Counter()
        self.objects: Counter[str] = Counter()
        self.images: Counter[str] = Counter()
        self.sides: dict[str, array[float]] = {}
        """Shorter side of every box in pixels of the image, by class."""
        self.model_sides = array("f")
        """Shorter side of every box in pixels of the model's square."""
        self.shares = array("f")
        """Share of the image that every box covers."""
        self.extents: Counter[str] = Counter()

    def add(self, instances: Iterable[Instance], size: Size) -> None:
        """Take in the objects of one image of (width, height) pixels."""
        single = []
        for instance in instances:
            if instance.crowd:
                self.crowds += 1
            else:
                single.append(instance)
        self.per_image[len(single)] += 1
        self.images.update({instance.label for instance in single})
        for instance in single:
            self.objects[instance.label] += 1
            self._measure(instance.label, instance.box, size)

    def _measure(self, label: str, box: Box, size: Size) -> None:
        width, height = box[2] - box[0], box[3] - box[1]
        self.sides.setdefault(label, array("f")).append(min(width, height))
        side = min(width / size[0], height / size[1]) * self.model_side
        self.model_sides.append(side)
        self.shares.append(width * height / (size[0] * size[1]))
        area = width * height
        extent = "small" if area <= SMALL else "medium" if area <= MEDIUM else "large"
        self.extents[extent] += 1

    def summary(self) -> dict[str, Any]:
        """Return the numbers; nothing where no image was taken in."""
        if not self.per_image:
            return {}
        total = sum(self.objects.values())
        below = sum(side < self.patch_side for side in self.model_sides)
        every = [side for sides in self.sides.values() for side in sides]
        return {
            "objects": total,
            "crowds": self.crowds,
            "empty_images": self.per_image[0],
            "per_image": {str(count): self.per_image[count] for count in sorted(self.per_image)},
            "classes": {name: self._class(name) for name, _ in self.objects.most_common()},
            "shorter_side": percentiles(every),
            "shorter_side_for_the_model": percentiles(self.model_sides),
            "share_of_image": percentiles(self.shares),
            "extents": {name: self.extents[name] for name in ("small", "medium", "large")},
            "below_a_patch": below / total if total else 0.0,
        }

    def _class(self, name: str) -> dict[str, Any]:
        return {
            "objects": self.objects[name],
            "images": self.images[name],
            "shorter_side": percentiles(self.sides[name]),
        }


def percentiles(values: Iterable[float], which: dict[str, int] = PERCENTILES) -> dict[str, float]:
    """Return percentiles by name; nothing of nothing."""
    numbers = np.fromiter(values, float)
    if not numbers.size:
        return {}
    found = np.percentile(numbers, list(which.values()))
    return {name: round(float(value), 4) for name, value in zip(which, found, strict=True)}


def spellings(labels: Iterable[str]) -> list[list[str]]:
    """Return the labels that differ in case, spaces, hyphens or underscores only, together."""
    alike: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        alike.setdefault(re.sub(r"[\s_-]+", " ", label).strip().casefold(), []).append(label)
    return [group for group in alike.values() if len(group) > 1]
