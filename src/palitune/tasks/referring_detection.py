"""`the left boat` -> `<locY0><locX0><locY1><locX1>`: the one object that an expression means.

PaliGemma's RefCOCO transfer writes neither the verb nor the label; its pre-training writes both:
`detect the left boat` -> `<loc>x4 the left boat`.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from palitune.codec import boxes
from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.records import Instance, Reference, Row, Size
from palitune.tasks.base import Task, referring_expression, require


@dataclass(kw_only=True)
class ReferringDetection(Task):
    """A row brings one expression and one object."""

    name: ClassVar[str] = "referring_detection"
    validity_metrics: ClassVar[tuple[str, ...]] = ("malformed_fragments",)
    allow_flip: ClassVar[bool] = True

    include_verb: bool = False
    """Whether the prompt begins with `detect`."""
    include_label: bool = False
    """Whether the answer ends with the expression."""
    metrics: list[str] = field(default_factory=lambda: ["box_accuracy"])
    max_new_tokens: int = 48

    def prefix(self, row: Row) -> str:
        return (
            f"detect {referring_expression(row)}"
            if self.include_verb
            else referring_expression(row)
        )

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        meant = replace(
            require_single_object(row),
            label=referring_expression(row) if self.include_label else "",
            crowd=False,
        )
        try:
            return (boxes.encode([meant], row.size, labelled=self.include_label),), (meant,)
        except ValueError as mistake:
            raise DataError(f"{row.location}: {mistake}") from mistake

    def parse(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> tuple[Instance, ...] | None:
        decoded = boxes.decode(text, size, labelled=self.include_label, confidence=confidence)
        return decoded.instances[:1] or None

    def grammar(self, prefix: str) -> ObjectGrammar | None:
        expression = prefix.removeprefix("detect ") if self.include_verb else prefix
        return single_object_grammar(expression if self.include_label else "")

    def count_malformed(self, text: str) -> int:
        return boxes.parse_objects(text, boxes.UNIT_SIZE, labelled=self.include_label)[1]

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        decoded = boxes.decode(suffix, row.size, labelled=self.include_label)
        if decoded.malformed or len(decoded.instances) != 1:
            label = " expression" if self.include_label else ""
            raise DataError(
                f"{row.location}: suffix {suffix!r} is not '<locY0><locX0><locY1><locX1>{label}'"
            )
        return decoded.instances


def single_object_grammar(label: str, *, with_masks: bool = False) -> ObjectGrammar | None:
    """Allow one object of this label; None where no answer can hold the label."""
    label = label.strip()
    if not boxes.is_valid_label(label):
        return None
    return ObjectGrammar((label,), with_masks, max_objects=1, allow_empty=False)


def require_single_object(row: Row) -> Instance:
    """Return the one object of a row."""
    instances = require(row, "instances", row.instances)
    if len(instances) != 1:
        raise DataError(
            f"{row.location}: column 'instances' holds {len(instances)} objects, but this task is "
            "about one; give a row for each"
        )
    return instances[0]
