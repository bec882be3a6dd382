"""Grounded captioning: `caption <locY0><locX0><locY1><locX1>` -> a description of the box.

The prompt is the one of PaliGemma's pre-training. Descriptions are the row's `captions`, else its
`expression`, so that data for referring expressions can be used as well.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.codec import boxes
from palitune.records import Reference, Row
from palitune.tasks.base import TextTask, check_template, referring_expression, require_texts
from palitune.tasks.referring_detection import require_single_object


@dataclass(kw_only=True)
class GroundedCaption(TextTask):
    """A row has one object and its descriptions."""

    name: ClassVar[str] = "grounded_caption"
    allow_flip: ClassVar[bool] = True
    single_image_only: ClassVar[bool] = True

    template: str = "caption {box}"
    """Template of the prompt; {box} is replaced by four <loc> tokens."""
    metrics: list[str] = field(default_factory=lambda: ["exact_match_lower", "anls_rrc"])
    max_new_tokens: Annotated[int, Ge(1)] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template("task.template", self.template, {"box"})

    def prefix(self, row: Row) -> str:
        box = boxes.encode_box(require_single_object(row).box, row.size)
        return self.template.format(box=box)

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        if row.captions is None and row.expression is not None:
            captions: tuple[str, ...] = (referring_expression(row),)
        else:
            captions = require_texts(row, "captions", row.captions)
        return captions, captions
