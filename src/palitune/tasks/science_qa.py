"""ScienceQA: `Question: ... Context: ... Options: (A) x, (B) y Answer:` -> `The answer is B.`

The format of ScienceQA's authors, also used by PaliGemma's transfer: the prompt has several lines,
and `N/A` if there is no context. As in the transfer, training shuffles the choices in every epoch.
"""

import dataclasses
from dataclasses import dataclass, field
from random import Random
from string import ascii_uppercase as LETTERS
from typing import Annotated, ClassVar

from annotated_types import Ge

from palitune.errors import DataError
from palitune.records import Example, Reference, Row
from palitune.tasks.base import TextTask, require, require_texts

_OPTIONS_HEADER = "\nOptions: "
_ANSWER_HEADER = "\nAnswer:"


@dataclass(kw_only=True)
class ScienceQa(TextTask):
    """A row has a question, its choices, the correct one as answer, and optionally a hint."""

    name: ClassVar[str] = "science_qa"

    shuffle: bool = True
    """Shuffle the choices in every epoch of training; evaluation keeps the order of the data."""
    metrics: list[str] = field(default_factory=lambda: ["science_qa"])
    max_new_tokens: Annotated[int, Ge(1)] = 16

    def prefix(self, row: Row) -> str:
        question = require(row, "question", row.question).strip()
        context = (row.hint or "").strip() or "N/A"
        return f"Question: {question}\nContext: {context}{_format_options(_row_choices(row))}"

    def targets(self, row: Row) -> tuple[tuple[str, ...], Reference]:
        answers, choices = require_texts(row, "answers", row.answers), _row_choices(row)
        if absent := [answer for answer in answers if answer not in choices]:
            raise DataError(
                f"{row.location}: answer {absent[0]!r} is not one of the choices {choices}"
            )
        suffixes = tuple(_answer_suffix(choices.index(answer)) for answer in answers)
        return suffixes, suffixes

    def _build_example(self, row: Row, suffixes: tuple[str, ...], reference: Reference) -> Example:
        example = super()._build_example(row, suffixes, reference)
        if row.prefix is not None or row.suffix is not None:
            return example
        return dataclasses.replace(example, choices=_row_choices(row))

    def choice_suffixes(self, example: Example) -> tuple[str, ...]:
        return tuple(_answer_suffix(index) for index in range(len(example.choices)))

    def randomize(self, example: Example, rng: Random) -> Example:
        if not self.shuffle or not example.choices:
            return example
        old = list(range(len(example.choices)))
        order = rng.sample(old, len(old))
        choices = tuple(example.choices[index] for index in order)
        suffixes = {_answer_suffix(index): _answer_suffix(order.index(index)) for index in old}
        return dataclasses.replace(
            example,
            prefix=example.prefix.removesuffix(_format_options(example.choices))
            + _format_options(choices),
            suffixes=tuple(suffixes[suffix] for suffix in example.suffixes),
            choices=choices,
        )


def _row_choices(row: Row) -> tuple[str, ...]:
    choices = require_texts(row, "choices", row.choices)
    if len(choices) > len(LETTERS):
        raise DataError(
            f"{row.location}: {len(choices)} choices, but at most {len(LETTERS)} are possible"
        )
    return choices


def _format_options(choices: tuple[str, ...]) -> str:
    options = (f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"{_OPTIONS_HEADER}{', '.join(options)}{_ANSWER_HEADER}"


def _answer_suffix(index: int) -> str:
    return f"The answer is {LETTERS[index]}."
