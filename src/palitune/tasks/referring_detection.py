"""Referring expressions: `the left boat` -> `<locY0><locX0><locY1><locX1>`, the box of one object.

PaliGemma's RefCOCO transfer writes neither the verb nor the label; its pre-training writes both:
`detect the left boat` -> `<loc>x4 the left boat`.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.codec import boxes
from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.records import Instance, Reference, Row, Size
from palitune.tasks.base import Task, referring_expression, require


@dataclass(kw_only=True)
class ReferringDetection(Task):
    """A row has one expression and one object; subclasses may encode more than its box."""

    name: ClassVar[str] = "referring_detection"
    validity_metrics: ClassVar[tuple[str, ...]] = ("malformed_fragments",)
    allow_flip: ClassVar[bool] = True
    verb: ClassVar[str] = "detect"
    suffix_format: ClassVar[str] = "<locY0><locX0><locY1><locX1>"
    writes_masks: ClassVar[bool] = False

    include_verb: bool = False
    """Begin the prompt with the verb, `detect` or `segment`."""
    include_label: bool = False
    """End the answer with the expression."""
    metrics: list[str] = field(default_factory=lambda: ["box_accuracy"])
    max_new_tokens: Annotated[int, Ge(1)] = 48

    def prefix(self, row: Row) -> str:
        verb = f"{self.verb} " if self.include_verb else ""
        return verb + referring_expression(row)

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        label = referring_expression(row) if self.include_label else ""
        instance = replace(require_single_object(row), label=label, crowd=False)
        return (self.encode_object(instance, row.size),), (instance,)

    def parse(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> tuple[Instance, ...] | None:
        return self.decode_objects(text, size, confidence).instances[:1] or None

    def grammar(self, prefix: str) -> ObjectGrammar | None:
        expression = prefix.removeprefix(f"{self.verb} ") if self.include_verb else prefix
        label = expression.strip() if self.include_label else ""
        if not boxes.is_valid_label(label):
            return None
        return ObjectGrammar((label,), self.writes_masks, max_objects=1, allow_empty=False)

    def count_malformed(self, text: str) -> int:
        return boxes.parse_objects(text, boxes.UNIT_SIZE, labelled=self.include_label)[1]

    def reference_from_suffix(self, row: Row, suffix: str) -> Reference:
        decoded = self.decode_objects(suffix, row.size)
        if decoded.malformed or len(decoded.instances) != 1:
            label = " expression" if self.include_label else ""
            raise DataError(
                f"{row.location}: suffix {suffix!r} is not '{self.suffix_format}{label}'"
            )
        return decoded.instances

    def encode_object(self, instance: Instance, size: Size) -> str:
        """Return the text of an object. Raises ValueError if it cannot be encoded."""
        return boxes.encode([instance], size, labelled=self.include_label)

    def decode_objects(
        self, text: str, size: Size, confidence: boxes.ConfidenceFn | None = None
    ) -> boxes.Decoded:
        """Return the objects of a generated text."""
        return boxes.decode(text, size, labelled=self.include_label, confidence=confidence)


def require_single_object(row: Row) -> Instance:
    """Return the object of a row. Raises DataError unless there is exactly one."""
    instances = require(row, "instances", row.instances)
    if len(instances) != 1:
        raise DataError(
            f"{row.location}: column 'instances' has {len(instances)} objects, but this task "
            "requires exactly one. Use one row per object"
        )
    return instances[0]
