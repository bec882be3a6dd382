"""`segment boat ; buoy` -> `<loc>x4<seg>x16 boat ; ...`, one entry per object."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from palitune.codec import boxes, masks
from palitune.examples import DataError, Instance, Reference, Row, Size
from palitune.tasks.detection import Detection
from palitune.tasks.masked import MaskedTask


@dataclass(kw_only=True)
class Segmentation(MaskedTask, Detection):
    """Every object needs a mask; a crowd, too, for predictions inside it are not counted wrong."""

    name: ClassVar[str] = "segmentation"
    verb: ClassVar[str] = "segment"
    form: ClassVar[str] = "<locY0><locX0><locY1><locX1> 16 <seg...> label ; ..."
    writes_masks: ClassVar[bool] = True

    metrics: list[str] = field(default_factory=lambda: ["segmentation"])
    max_new_tokens: int = 512

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        reference = self._reference(row)
        try:
            for instance in reference:
                masks.mask_of(instance, row.size)
        except ValueError as mistake:
            raise DataError(f"{row.place}: {mistake}") from mistake
        return super().targets(row)

    def write(self, instances: Sequence[Instance], size: Size) -> str:
        return masks.encode(instances, size, masks.codec_named(self.codec))

    def read(
        self, text: str, size: Size, confidence: boxes.Confidence | None = None
    ) -> boxes.Decoded:
        return masks.decode(text, size, masks.codec_named(self.codec), confidence=confidence)

    def unreadable(self, text: str) -> int:
        return masks.scan(text, boxes.ANY_SIZE)[1]
