"""`caption <locY0><locX0><locY1><locX1>` -> a sentence about what is in the box.

As PaliGemma's pre-training asks for it. The sentences are the row's `captions`, else its
`expression`, so that data for referring expressions serves both ways.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from palitune.codec import boxes
from palitune.errors import DataError
from palitune.records import Reference, Row
from palitune.tasks.base import TextTask, check_template, referring_expression, require_texts
from palitune.tasks.referring_detection import require_single_object


@dataclass(kw_only=True)
class GroundedCaption(TextTask):
    """A row brings one object and what is said about it."""

    name: ClassVar[str] = "grounded_caption"
    allow_flip: ClassVar[bool] = True
    single_image_only: ClassVar[bool] = True

    template: str = "caption {box}"
    """The prompt; {box} is filled in as four <loc> tokens."""
    metrics: list[str] = field(default_factory=lambda: ["exact_match_lower", "anls_rrc"])
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template("task.template", self.template, {"box"})

    def prefix(self, row: Row) -> str:
        described = require_single_object(row)
        try:
            box = boxes.encode_box(described.box, row.size)
        except ValueError as mistake:
            raise DataError(f"{row.location}: {mistake}") from mistake
        return self.template.format(box=box)

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        if row.captions is None and row.expression is not None:
            said: tuple[str, ...] = (referring_expression(row),)
        else:
            said = require_texts(row, "captions", row.captions)
        return said, said
