"""Upper bound of the mask codec: IoU of masks with the result of encoding and decoding them.

No model that writes `<seg>` tokens can be expected to segment the same objects better than this.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from palitune.codec import masks
from palitune.metrics.objects.segmentation import mask_iou
from palitune.records import Instance, Mask, Size

SMALL_AREA, MEDIUM_AREA = 32**2, 96**2
"""Largest area in pixels of a small and of a medium mask, as in COCO."""
ALL = "all"
"""Key for every class, and for every size."""


@dataclass(frozen=True)
class UpperBound:
    """Mean IoU between masks and their decoded tokens."""

    iou: float
    num_objects: int
    """Number of masks in the mean."""


UpperBounds = dict[tuple[str, str], UpperBound]
"""By class and size (`small`, `medium`, `large`); `all` is every class or every size."""


class CodecUpperBound:
    """Accumulates the upper bound of a codec over many images; crowds are left out."""

    def __init__(self, codec: masks.MaskCodec) -> None:
        self.codec = codec
        self.ious: dict[tuple[str, str], list[float]] = {}

    def update(self, instances: Iterable[Instance], size: Size) -> None:
        """Add the objects of one image of (width, height) pixels.

        Raises ValueError if an object has no mask or one of another size.
        """
        objects = [instance for instance in instances if not instance.crowd]
        unlabeled = [replace(instance, label="") for instance in objects]
        text = masks.encode(unlabeled, size, self.codec, labelled=False)
        decoded = masks.decode(text, size, self.codec, labelled=False).instances
        for before, after in zip(objects, decoded, strict=True):
            mask = masks.require_mask(before, size)
            iou = mask_iou(mask, masks.require_mask(after, size))
            for label in (before.label, ALL):
                for category in (_size_category(mask), ALL):
                    self.ious.setdefault((label, category), []).append(iou)

    def compute(self) -> UpperBounds:
        """Return the means by class and size; only of those that occur."""
        return {key: UpperBound(float(np.mean(v)), len(v)) for key, v in sorted(self.ious.items())}


def _size_category(mask: Mask) -> str:
    area = np.count_nonzero(mask)
    return "small" if area <= SMALL_AREA else "medium" if area <= MEDIUM_AREA else "large"
