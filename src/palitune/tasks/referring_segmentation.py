"""`the left boat` -> `<loc>x4<seg>x16`: the one object that an expression means.

PaliGemma's RefCOCO transfer writes neither the verb nor the label; its pre-training writes both:
`segment the left boat` -> `<loc>x4<seg>x16 the left boat`.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from palitune.codec import boxes, masks
from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.records import Instance, Reference, Row, Size
from palitune.tasks.base import referring_expression
from palitune.tasks.mask_task import MaskTask
from palitune.tasks.referring_detection import require_single_object, single_object_grammar


@dataclass(kw_only=True)
class ReferringSegmentation(MaskTask):
    """A row brings one expression and one object, with its mask."""

    name: ClassVar[str] = "referring_segmentation"
    validity_metrics: ClassVar[tuple[str, ...]] = ("malformed_fragments",)
    allow_flip: ClassVar[bool] = True

    include_verb: bool = False
    """Whether the prompt begins with `segment`."""
    include_label: bool = False
    """Whether the answer ends with the expression."""
    metrics: list[str] = field(default_factory=lambda: ["referring_segmentation"])
    max_new_tokens: int = 64

    def prefix(self, row: Row) -> str:
        return (
            f"segment {referring_expression(row)}"
            if self.include_verb
            else referring_expression(row)
        )

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        label = referring_expression(row) if self.include_label else ""
        meant = replace(require_single_object(row), label=label, crowd=False)
        codec = masks.load_codec(self.codec)
        try:
            return (masks.encode([meant], row.size, codec, labelled=self.include_label),), (meant,)
        except ValueError as mistake:
            raise DataError(f"{row.location}: {mistake}") from mistake

    def parse(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> tuple[Instance, ...] | None:
        return self._decode(text, size, confidence).instances[:1] or None

    def grammar(self, prefix: str) -> ObjectGrammar | None:
        expression = prefix.removeprefix("segment ") if self.include_verb else prefix
        return single_object_grammar(expression if self.include_label else "", with_masks=True)

    def count_malformed(self, text: str) -> int:
        return masks.parse_objects(text, boxes.UNIT_SIZE, labelled=self.include_label)[1]

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        decoded = self._decode(suffix, row.size)
        if decoded.malformed or len(decoded.instances) != 1:
            label = " expression" if self.include_label else ""
            raise DataError(
                f"{row.location}: suffix {suffix!r} is not '<locY0><locX0><locY1><locX1> 16 <seg...>"
                f"{label}'"
            )
        return decoded.instances

    def _decode(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> boxes.Decoded:
        codec = masks.load_codec(self.codec)
        return masks.decode(text, size, codec, labelled=self.include_label, confidence=confidence)
