"""`caption en` -> a short caption, the COCO way."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from palitune.errors import DataError
from palitune.records import Example, Reference, Row
from palitune.tasks.base import TextTask, check_template, multiple_images_message, require_texts
from palitune.tasks.referring_detection import require_single_object


@dataclass(kw_only=True)
class Caption(TextTask):
    name: ClassVar[str] = "caption"
    allow_flip: ClassVar[bool] = True

    template: str = "caption {language}"
    """The prompt; {language} is filled in."""
    language: str = "en"
    """Language code of the captions, for rows that do not bring their own: the pre-training knew
    35 of them."""
    lowercase: bool = False
    """Learn and judge captions in lower case, as the TextCaps transfer does."""
    mark: bool = False
    """Outline the box of the row's one object in red in the image that the model sees, after it is
    resized, and have the caption speak of that object: WidgetCap."""
    metrics: list[str] = field(default_factory=lambda: ["cider_d"])
    max_new_tokens: int = 64

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
