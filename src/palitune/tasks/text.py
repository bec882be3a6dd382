"""Any prompt, any answer: rows that bring their own `prefix` and `suffix`."""

from dataclasses import dataclass, field
from typing import ClassVar

from palitune.records import Reference, Row
from palitune.tasks.base import TextTask, require, require_texts


@dataclass(kw_only=True)
class Text(TextTask):
    name: ClassVar[str] = "text"

    metrics: list[str] = field(default_factory=lambda: ["exact_match", "anls_rrc"])
    max_new_tokens: int = 128

    def prefix(self, row: Row) -> str:
        return require(row, "prefix", row.prefix)

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        suffixes = require_texts(row, "suffix", None if row.suffix is None else (row.suffix,))
        return suffixes, suffixes
