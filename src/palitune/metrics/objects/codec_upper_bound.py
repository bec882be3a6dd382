"""What the codec alone allows: how well masks survive being written as tokens and read back.

No model that writes `<seg>` tokens can be expected to segment better than this on the same objects.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from palitune.codec import masks
from palitune.metrics.objects.segmentation import mask_iou
from palitune.records import Instance, Mask, Size

SMALL_AREA, MEDIUM_AREA = 32**2, 96**2
"""Largest area in pixels of a small and of a medium mask, as COCO has them."""
ALL = "all"
"""Stands for every class, and for every size."""


@dataclass(frozen=True)
class UpperBound:
    """The mean IoU between masks and what is read back of their tokens."""

    iou: float
    num_objects: int
    """How many masks it is the mean of."""


UpperBounds = dict[tuple[str, str], UpperBound]
"""By class and size (`small`, `medium`, `large`); `all` stands for every one of either."""


class CodecUpperBound:
    """Gather the ceiling of a codec over many images; crowds are left out."""

    def __init__(self, codec: masks.MaskCodec) -> None:
        self.codec = codec
        self.ious: dict[tuple[str, str], list[float]] = {}

    def update(self, instances: Iterable[Instance], size: Size) -> None:
        """Take in the objects of one image of (width, height) pixels.

        Raises ValueError where an object has no mask, or one of another size.
        """
        single = [instance for instance in instances if not instance.crowd]
        unlabelled = [replace(instance, label="") for instance in single]
        text = masks.encode(unlabelled, size, self.codec, labelled=False)
        read = masks.decode(text, size, self.codec, labelled=False).instances
        for before, after in zip(single, read, strict=True):
            mask = masks.require_mask(before, size)
            iou = mask_iou(mask, masks.require_mask(after, size))
            for label in (before.label, ALL):
                for extent in (_size_category(mask), ALL):
                    self.ious.setdefault((label, extent), []).append(iou)

    def compute(self) -> UpperBounds:
        """Return the means; only of what occurs."""
        return {key: UpperBound(float(np.mean(v)), len(v)) for key, v in sorted(self.ious.items())}


def codec_upper_bound(
    instances: Iterable[Instance], size: Size, codec: masks.MaskCodec
) -> UpperBounds:
    """Return the ceiling for the objects of one image; see `CeilingOfCodec` for more of them."""
    gathered = CodecUpperBound(codec)
    gathered.update(instances, size)
    return gathered.compute()


def _size_category(mask: Mask) -> str:
    area = np.count_nonzero(mask)
    return "small" if area <= SMALL_AREA else "medium" if area <= MEDIUM_AREA else "large"
