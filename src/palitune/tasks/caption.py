"""`caption en` -> a short caption, the COCO way."""

from dataclasses import dataclass, field
from typing import ClassVar

from palitune.examples import Reference, Row
from palitune.tasks.base import TextTask, check_template, texts


@dataclass(kw_only=True)
class Caption(TextTask):
    name: ClassVar[str] = "caption"
    mirrorable: ClassVar[bool] = True

    template: str = "caption {language}"
    """The prompt; {language} is filled in."""
    language: str = "en"
    """Language code of the captions: the pre-training knew 35 of them."""
    metrics: list[str] = field(default_factory=lambda: ["cider_d"])
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template("task.template", self.template, {"language"})

    def prefix(self, row: Row) -> str:
        return self.template.format(language=self.language)

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        captions = texts(row, "captions", row.captions)
        return captions, captions
