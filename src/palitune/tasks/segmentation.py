"""Instance segmentation: `segment boat ; buoy` -> `<loc>x4<seg>x16 boat ; ...`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.codec import boxes, masks
from palitune.records import Instance, Reference, Row, Size
from palitune.tasks.detection import Detection
from palitune.tasks.mask_task import MaskTask


@dataclass(kw_only=True)
class Segmentation(MaskTask, Detection):
    """Every object requires a mask, including crowds, so that predictions inside can be ignored."""

    name: ClassVar[str] = "segmentation"
    verb: ClassVar[str] = "segment"
    suffix_format: ClassVar[str] = "<locY0><locX0><locY1><locX1> 16 <seg...> label ; ..."
    writes_masks: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["segmentation"])
    max_new_tokens: Annotated[int, Ge(1)] = 512

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        for instance in self._reference_objects(row):
            masks.require_mask(instance, row.size)
        return super().targets(row)

    def encode_objects(self, instances: Sequence[Instance], size: Size) -> str:
        return masks.encode(instances, size, masks.load_codec(self.codec))

    def decode_objects(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> boxes.Decoded:
        return masks.decode(text, size, masks.load_codec(self.codec), confidence=confidence)

    def count_malformed(self, text: str) -> int:
        return masks.parse_objects(text, boxes.UNIT_SIZE)[1]
