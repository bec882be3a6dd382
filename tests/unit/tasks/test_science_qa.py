"""ScienceQA: the prompt of its authors, the letter of the answer, and what cannot be asked."""

import dataclasses
from random import Random
from typing import Any

import pytest

from palitune.errors import DataError
from palitune.records import Row
from palitune.tasks.science_qa import ScienceQa

ROW = Row(
    id="3",
    images=("/a.png",),
    size=(9, 9),
    location="problems.json, 3",
    question="Which property do these objects have in common?",
    hint="Select the best answer.",
    answers=("hard",),
    choices=("soft", "hard", "salty"),
)


def with_columns(**columns: Any) -> Row:
    return dataclasses.replace(ROW, **columns)


def test_question_hint_and_choices_stand_in_lines_and_the_answer_is_a_letter() -> None:
    example = ScienceQa().example(ROW)
    assert example.prefix == (
        "Question: Which property do these objects have in common?\n"
        "Context: Select the best answer.\n"
        "Options: (A) soft, (B) hard, (C) salty\n"
        "Answer:"
    )
    assert example.suffixes == example.reference == ("The answer is B.",)


@pytest.mark.parametrize("hint", [None, "", "  "])
def test_no_hint_is_not_available(hint: str | None) -> None:
    assert "\nContext: N/A\n" in ScienceQa().prefix(with_columns(hint=hint))


def test_redrawn_choices_are_the_same_in_another_order_with_the_letter_of_the_answer() -> None:
    task = ScienceQa()
    example = task.example(ROW)
    drawn = [task.randomize(example, Random(number)) for number in range(30)]
    for each in drawn:
        assert sorted(each.choices) == sorted(example.choices)
        assert each.suffixes == (f"The answer is {'ABC'[each.choices.index('hard')]}.",)
        assert each.prefix == task.prefix(with_columns(choices=each.choices))
        assert each.reference == example.reference
    assert len({each.prefix for each in drawn}) == 6


def test_a_row_with_a_prompt_of_its_own_is_left_alone() -> None:
    task = ScienceQa()
    example = task.example(with_columns(prefix="say", suffix="The answer is B."))
    assert task.randomize(example, Random(0)) is example


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"answers": ("sweet",)}, "answer 'sweet' is not one of the choices"),
        ({"choices": None}, "column 'choices' is missing"),
        ({"choices": tuple(map(str, range(27)))}, "27 choices, but at most 26 are possible"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(columns: Any, why: str) -> None:
    with pytest.raises(DataError, match=f"^problems.json, 3: .*{why}"):
        ScienceQa().example(with_columns(**columns))
