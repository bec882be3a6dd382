"""`detect boat ; buoy` -> `<locY0><locX0><locY1><locX1> boat ; ...`, one entry per object."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from palitune.codec import boxes
from palitune.examples import DataError, Instance, Reference, Row, Size
from palitune.tasks.base import Task, needed


class Ask(Enum):
    """Which classes the prompt names."""

    all = "all"
    """Every class: the honest question, since the prompt tells nothing about the image."""
    present = "present"
    """Those that occur in the image (all of them where none occurs)."""


class Order(Enum):
    """How the suffix lists the objects."""

    reading = "reading"
    """By the top of the box, then by its left side."""
    random = "random"
    """Shuffled, always the same way for the same example; PaliGemma 2's COCO transfer."""
    given = "given"
    """As the annotation file lists them."""


@dataclass(kw_only=True)
class Detection(Task):
    """A subclass may write more of an object than its box: see `write` and `read`."""

    name: ClassVar[str] = "detection"
    verb: ClassVar[str] = "detect"
    form: ClassVar[str] = "<locY0><locX0><locY1><locX1> label ; ..."

    classes: list[str] = field(default_factory=list)
    """Classes to ask for, in this order; empty: every class that the data source knows."""
    ask: Ask = Ask.all
    """Which of them one prompt names: all | present."""
    order: Order = Order.reading
    """Order of the objects in the suffix: reading | random | given."""
    metrics: list[str] = field(default_factory=lambda: ["detection"])
    max_new_tokens: int = 256

    def prefix(self, row: Row) -> str:
        classes = self._classes(row)
        if self.ask is Ask.present:
            found = {instance.label for instance in self._wanted(row)}
            classes = [name for name in classes if name in found] or classes
        return f"{self.verb} {boxes.SEPARATOR.join(classes)}"

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        reference = tuple(self._ordered(row, self._wanted(row)))
        try:
            return (self.write(reference, row.size),), reference
        except ValueError as mistake:
            raise DataError(f"{row.place}: {mistake}") from mistake

    def parse(
        self, text: str, size: Size, confidence: boxes.Confidence | None = None
    ) -> tuple[Instance, ...] | None:
        decoded = self.read(text, size, confidence)
        return None if decoded.malformed and not decoded.instances else decoded.instances

    def given(self, row: Row, suffix: str) -> Reference:
        decoded = self.read(suffix, row.size)
        if decoded.malformed:
            raise DataError(f"{row.place}: suffix {suffix!r} is not '{self.form}'")
        return decoded.instances

    def write(self, reference: Sequence[Instance], size: Size) -> str:
        """Write the objects of an image that are no crowd. Raises ValueError for a faulty one."""
        return boxes.encode([i for i in reference if not i.crowd], size)

    def read(
        self, text: str, size: Size, confidence: boxes.Confidence | None = None
    ) -> boxes.Decoded:
        """Invert `write`, as far as the text is well-formed."""
        return boxes.decode(text, size, confidence=confidence)

    def _classes(self, row: Row) -> list[str]:
        classes = self.classes or list(row.classes or ())
        if not classes:
            raise DataError(
                f"{row.place}: the data names no classes; say which with task.classes=[...]"
            )
        return classes

    def _wanted(self, row: Row) -> list[Instance]:
        wanted = set(self._classes(row))
        return [i for i in needed(row, "instances", row.instances) if i.label in wanted]

    def _ordered(self, row: Row, instances: list[Instance]) -> list[Instance]:
        if self.order is Order.given:
            return instances
        if self.order is Order.reading:
            return sorted(instances, key=lambda i: (i.box[1], i.box[0]))
        return random.Random(row.id).sample(instances, len(instances))
