"""`the left boat` -> `<loc>x4<seg>x16`: the one object that an expression means.

PaliGemma's RefCOCO transfer writes neither the verb nor the label; its pre-training writes both:
`segment the left boat` -> `<loc>x4<seg>x16 the left boat`.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from palitune.codec import boxes, masks
from palitune.codec.grammar import Grammar
from palitune.examples import DataError, Instance, Reference, Row, Size
from palitune.tasks.base import expression_of
from palitune.tasks.masked import MaskedTask
from palitune.tasks.referring_detection import one_object, only_object


@dataclass(kw_only=True)
class ReferringSegmentation(MaskedTask):
    """A row brings one expression and one object, with its mask."""

    name: ClassVar[str] = "referring_segmentation"
    object_shares: ClassVar[tuple[str, ...]] = ("malformed_fragments",)
    mirrorable: ClassVar[bool] = True

    verb: bool = False
    """Whether the prompt begins with `segment`."""
    label: bool = False
    """Whether the answer ends with the expression."""
    metrics: list[str] = field(default_factory=lambda: ["referring_segmentation"])
    max_new_tokens: int = 64

    def prefix(self, row: Row) -> str:
        return f"segment {expression_of(row)}" if self.verb else expression_of(row)

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        label = expression_of(row) if self.label else ""
        meant = replace(only_object(row), label=label, crowd=False)
        codec = masks.codec_named(self.codec)
        try:
            return (masks.encode([meant], row.size, codec, labelled=self.label),), (meant,)
        except ValueError as mistake:
            raise DataError(f"{row.place}: {mistake}") from mistake

    def parse(
        self, text: str, size: Size, confidence: boxes.Confidence | None = None
    ) -> tuple[Instance, ...] | None:
        return self._read(text, size, confidence).instances[:1] or None

    def grammar(self, prefix: str) -> Grammar | None:
        expression = prefix.removeprefix("segment ") if self.verb else prefix
        return one_object(expression if self.label else "", masks=True)

    def unreadable(self, text: str) -> int:
        return masks.scan(text, boxes.ANY_SIZE, labelled=self.label)[1]

    def given(self, row: Row, suffix: str) -> Reference:
        decoded = self._read(suffix, row.size)
        if decoded.malformed or len(decoded.instances) != 1:
            label = " expression" if self.label else ""
            raise DataError(
                f"{row.place}: suffix {suffix!r} is not '<locY0><locX0><locY1><locX1> 16 <seg...>"
                f"{label}'"
            )
        return decoded.instances

    def _read(
        self, text: str, size: Size, confidence: boxes.Confidence | None = None
    ) -> boxes.Decoded:
        codec = masks.codec_named(self.codec)
        return masks.decode(text, size, codec, labelled=self.label, confidence=confidence)
