"""Referring segmentation: `the left boat` -> `<loc>x4<seg>x16`, the box and mask of one object.

PaliGemma's RefCOCO transfer writes neither the verb nor the label; its pre-training writes both:
`segment the left boat` -> `<loc>x4<seg>x16 the left boat`.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.codec import boxes, masks
from palitune.records import Instance, Size
from palitune.tasks.mask_task import MaskTask
from palitune.tasks.referring_detection import ReferringDetection


@dataclass(kw_only=True)
class ReferringSegmentation(ReferringDetection, MaskTask):
    """A row has one expression and one object with its mask."""

    name: ClassVar[str] = "referring_segmentation"
    verb: ClassVar[str] = "segment"
    suffix_format: ClassVar[str] = "<locY0><locX0><locY1><locX1> 16 <seg...>"
    writes_masks: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["referring_segmentation"])
    max_new_tokens: Annotated[int, Ge(1)] = 64

    def count_malformed(self, text: str) -> int:
        return masks.parse_objects(text, boxes.UNIT_SIZE, labelled=self.include_label)[1]

    def encode_object(self, instance: Instance, size: Size) -> str:
        codec = masks.load_codec(self.codec)
        return masks.encode([instance], size, codec, labelled=self.include_label)

    def decode_objects(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> boxes.Decoded:
        codec = masks.load_codec(self.codec)
        return masks.decode(text, size, codec, labelled=self.include_label, confidence=confidence)
