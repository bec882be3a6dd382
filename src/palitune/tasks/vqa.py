"""Visual question answering: `answer en where is the cow?` -> a short answer.

The prefix is a template: `answer {language} {question}` in most transfers of the PaliGemma report,
`{question}` in those of DocVQA and ChartQA, or with `{choices}` for multiple choice.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.records import Example, Reference, Row
from palitune.tasks.base import TextTask, check_template, placeholders, require, require_texts


@dataclass(kw_only=True)
class Vqa(TextTask):
    name: ClassVar[str] = "vqa"

    template: str = "answer {language} {question}"
    """Template of the prompt, with the placeholders {language}, {question} and {choices}."""
    language: str = "en"
    """Language code of the answer."""
    choice_separator: str = " \t "
    """Separator of the choices; big_vision uses space, tab, space."""
    lowercase: bool = False
    """Lower-case the answers for training and scoring, as in the InfoVQA transfer."""
    metrics: list[str] = field(default_factory=lambda: ["exact_match", "anls_rrc"])
    max_new_tokens: Annotated[int, Ge(1)] = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        check_template("task.template", self.template, {"language", "question", "choices"})

    def prefix(self, row: Row) -> str:
        used = placeholders(self.template)
        question = choices = ""
        if "question" in used:
            question = require(row, "question", row.question).strip()
        if "choices" in used:
            choices = self.choice_separator.join(require(row, "choices", row.choices))
        return self.template.format(language=self.language, question=question, choices=choices)

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        answers = require_texts(row, "answers", row.answers)
        if self.lowercase:
            answers = tuple(answer.lower() for answer in answers)
        return answers, answers

    def _build_example(self, row: Row, suffixes: tuple[str, ...], reference: Reference) -> Example:
        example = super()._build_example(row, suffixes, reference)
        return dataclasses.replace(example, choices=row.choices) if row.choices else example

    def choice_suffixes(self, example: Example) -> tuple[str, ...]:
        choices = tuple(choice.strip() for choice in example.choices)
        return tuple(choice.lower() for choice in choices) if self.lowercase else choices
