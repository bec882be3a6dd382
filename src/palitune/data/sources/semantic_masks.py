"""Semantic maps: an image per image whose pixels are numbers of classes, grey or palette.

As ADE20K, Pascal VOC's SegmentationClass and Cityscapes' labelTrainIds are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar

from palitune.data.sources.mask_folders import MaskFolder, numbers_in, read_map
from palitune.data.sources.shapes import components
from palitune.examples import Mask, Size


class Objects(Enum):
    """What one object is, where the map knows classes only."""

    classes = "classes"
    """All pixels of a class."""
    components = "components"
    """Pixels of a class that touch each other, at sides or corners."""


@dataclass(kw_only=True)
class SemanticMasks(MaskFolder):
    """Rows out of maps of class numbers."""

    name: ClassVar[str] = "semantic_masks"

    ignore: list[int] = field(default_factory=lambda: [255])
    """Numbers of pixels that belong to no class."""
    instances: Objects = Objects.classes
    """What becomes an instance: classes | components."""

    def objects(
        self, entry: Path, size: Size, classes: tuple[str, ...]
    ) -> Iterator[tuple[str, Mask]]:
        pixels = read_map(entry, size)
        for number in numbers_in(pixels):
            if number < self.first or number in self.ignore:
                continue
            label = self.class_at(number, classes, f"{entry}: pixels")
            mask = pixels == number
            if self.instances is Objects.components:
                yield from ((label, part) for part in components(mask))
            else:
                yield label, mask
