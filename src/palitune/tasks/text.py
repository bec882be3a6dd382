"""Free text: any prompt and answer from the columns `prefix` and `suffix`."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.records import Reference, Row
from palitune.tasks.base import TextTask, require, require_texts


@dataclass(kw_only=True)
class Text(TextTask):
    name: ClassVar[str] = "text"

    metrics: list[str] = field(default_factory=lambda: ["exact_match", "anls_rrc"])
    max_new_tokens: Annotated[int, Ge(1)] = 128

    def prefix(self, row: Row) -> str:
        return require(row, "prefix", row.prefix)

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        suffixes = require_texts(row, "suffix", None if row.suffix is None else (row.suffix,))
        return suffixes, suffixes
