"""Text recognition: `ocr` -> all text of the image in reading order."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.records import Reference, Row
from palitune.tasks.base import TextTask, require, require_texts


@dataclass(kw_only=True)
class Ocr(TextTask):
    name: ClassVar[str] = "ocr"

    metrics: list[str] = field(
        default_factory=lambda: ["exact_match", "character_error_rate", "word_error_rate"]
    )
    max_new_tokens: Annotated[int, Ge(1)] = 256

    def prefix(self, row: Row) -> str:
        return "ocr"

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        texts = require_texts(row, "text", (require(row, "text", row.text),))
        return texts, texts
