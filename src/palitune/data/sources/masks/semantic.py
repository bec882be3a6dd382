"""Semantic masks: an image of class numbers per image, in gray or with a palette.

This is the format of ADE20K, Pascal VOC's SegmentationClass and Cityscapes' labelTrainIds.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import ClassVar

from palitune.data.sources.masks.folder import MaskFolder, read_mask_image, unique_ids
from palitune.data.sources.masks.formats import connected_components
from palitune.records import Mask, Size


class InstanceDefinition(Enum):
    """Pixels that form one instance."""

    classes = "classes"
    """All pixels of a class."""
    components = "components"
    """Pixels of a class that touch each other, at sides or corners."""


@dataclass(kw_only=True)
class SemanticMasks(MaskFolder):
    """Rows from images of class numbers."""

    name: ClassVar[str] = "semantic_masks"

    ignore: list[int] = field(default_factory=lambda: [255])
    """Numbers of pixels that belong to no class."""
    instances: InstanceDefinition = InstanceDefinition.classes
    """Pixels that form one instance: classes | components."""

    def objects(
        self, mask_path: Path, size: Size, classes: tuple[str, ...]
    ) -> Iterator[tuple[str, Mask]]:
        pixels = read_mask_image(mask_path, size)
        for number in unique_ids(pixels):
            if number < self.first_class_id or number in self.ignore:
                continue
            label = self.class_for_id(number, classes, mask_path)
            mask = pixels == number
            if self.instances is InstanceDefinition.components:
                yield from ((label, part) for part in connected_components(mask))
            else:
                yield label, mask
