"""Image captioning: `caption en` -> a short caption, as in COCO."""

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.errors import DataError
from palitune.records import Example, Reference, Row
from palitune.tasks.base import TextTask, check_template, multiple_images_message, require_texts
from palitune.tasks.referring_detection import require_single_object


@dataclass(kw_only=True)
class Caption(TextTask):
    name: ClassVar[str] = "caption"
    allow_flip: ClassVar[bool] = True

    template: str = "caption {language}"
    """Template of the prompt, with the placeholder {language}."""
    language: str = "en"
    """Language code for rows without one; PaliGemma was pre-trained on 35 languages."""
    lowercase: bool = False
    """Lower-case the captions for training and scoring, as in the TextCaps transfer."""
    mark: bool = False
    """Draw the box of the row's single object in red on the resized image; the caption describes
    that object (WidgetCap)."""
    metrics: list[str] = field(default_factory=lambda: ["cider_d"])
    max_new_tokens: Annotated[int, Ge(1)] = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template("task.template", self.template, {"language"})

    def example(self, row: Row) -> Example:
        example = super().example(row)
        if not self.mark:
            return example
        if len(row.images) > 1:
            raise DataError(
                multiple_images_message(row.location, len(row.images), "caption with task.mark")
            )
        return replace(example, marked_box=require_single_object(row).box)

    def prefix(self, row: Row) -> str:
        return self.template.format(language=row.language or self.language)

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        captions = require_texts(row, "captions", row.captions)
        if self.lowercase:
            captions = tuple(caption.lower() for caption in captions)
        return captions, captions
