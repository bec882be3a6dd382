"""`the left boat` -> `<locY0><locX0><locY1><locX1>`: the one object that an expression means.

PaliGemma's RefCOCO transfer writes neither the verb nor the label; its pre-training writes both:
`detect the left boat` -> `<loc>x4 the left boat`.
"""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from palitune.codec import boxes
from palitune.codec.grammar import Grammar
from palitune.examples import DataError, Instance, Reference, Row, Size
from palitune.tasks.base import Task, expression_of, needed


@dataclass(kw_only=True)
class ReferringDetection(Task):
    """A row brings one expression and one object."""

    name: ClassVar[str] = "referring_detection"
    object_shares: ClassVar[tuple[str, ...]] = ("malformed_fragments",)
    mirrorable: ClassVar[bool] = True

    verb: bool = False
    """Whether the prompt begins with `detect`."""
    label: bool = False
    """Whether the answer ends with the expression."""
    metrics: list[str] = field(default_factory=lambda: ["box_accuracy"])
    max_new_tokens: int = 48

    def prefix(self, row: Row) -> str:
        return f"detect {expression_of(row)}" if self.verb else expression_of(row)

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        meant = replace(
            only_object(row), label=expression_of(row) if self.label else "", crowd=False
        )
        try:
            return (boxes.encode([meant], row.size, labelled=self.label),), (meant,)
        except ValueError as mistake:
            raise DataError(f"{row.place}: {mistake}") from mistake

    def parse(
        self, text: str, size: Size, confidence: boxes.Confidence | None = None
    ) -> tuple[Instance, ...] | None:
        decoded = boxes.decode(text, size, labelled=self.label, confidence=confidence)
        return decoded.instances[:1] or None

    def grammar(self, prefix: str) -> Grammar | None:
        expression = prefix.removeprefix("detect ") if self.verb else prefix
        return one_object(expression if self.label else "")

    def unreadable(self, text: str) -> int:
        return boxes.scan(text, boxes.ANY_SIZE, labelled=self.label)[1]

    def given(self, row: Row, suffix: str) -> Reference:
        decoded = boxes.decode(suffix, row.size, labelled=self.label)
        if decoded.malformed or len(decoded.instances) != 1:
            label = " expression" if self.label else ""
            raise DataError(
                f"{row.place}: suffix {suffix!r} is not '<locY0><locX0><locY1><locX1>{label}'"
            )
        return decoded.instances


def one_object(label: str, *, masks: bool = False) -> Grammar | None:
    """Allow one object of this label; None where no answer can hold the label."""
    label = label.strip()
    if not boxes.is_writable(label):
        return None
    return Grammar((label,), masks, most=1, empty=False)


def only_object(row: Row) -> Instance:
    """Return the one object of a row."""
    instances = needed(row, "instances", row.instances)
    if len(instances) != 1:
        raise DataError(
            f"{row.place}: column 'instances' holds {len(instances)} objects, but this task is "
            "about one; give a row for each"
        )
    return instances[0]
