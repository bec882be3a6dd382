import math

import numpy as np
import pytest

from palitune.errors import DataError
from palitune.metrics.base import Metric
from palitune.metrics.text.science_qa_pope_rsvqa import Pope, Rsvqa, ScienceQa, science_qa_letter
from palitune.records import Example, Prediction


def judge(
    metric: Metric, answer: str | None, reference: str, **attributes: str
) -> dict[str, float]:
    example = Example(
        id="1",
        images=("/a.png",),
        size=(9, 9),
        prefix="",
        suffixes=(reference,),
        reference=(reference,),
        location="rows.jsonl:1",
        attributes=attributes,
    )
    return metric.update(example, Prediction(id="1", text="", value=answer))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is B.", "b"),
        ("the ANSWER is c. Because it is.", "c"),
        ("The answer is B", None),
        (" The answer is B.", None),
        ("So the answer is B.", None),
        ("The answer is BC.", None),
        ("B", None),
        ("", None),
    ],
)
def test_the_letter_of_a_science_question_stands_in_a_fixed_sentence(
    text: str, letter: str | None
) -> None:
    assert science_qa_letter(text) == letter


def test_science_answers_without_a_letter_are_wrong_and_counted() -> None:
    metric = ScienceQa()
    assert judge(metric, "The answer is A. ", "The answer is A.") == {
        "science_qa_accuracy": 1,
        "science_qa_valid": 1,
    }
    judge(metric, "The answer is B.", "The answer is A.")
    judge(metric, "A", "The answer is A.")
    judge(metric, None, "The answer is A.")
    assert metric.compute() == {"science_qa_accuracy": 0.25, "science_qa_valid": 0.5}


def test_answers_about_presence_are_equal_but_for_case_and_valid_if_yes_or_no() -> None:
    metric = Pope()
    for answer in ("Yes", "no", "maybe", "yes "):
        judge(metric, answer, "yes")
    assert metric.compute() == {"pope_accuracy": 0.25, "pope_valid": 0.5}


def test_question_types_weigh_the_same_whatever_their_number() -> None:
    metric = Rsvqa()
    for answer, kind in (
        ("yes", "comp"),
        ("No", "presence"),
        ("no", "presence"),
        ("x", "presence"),
    ):
        judge(metric, answer, "yes" if kind == "comp" else "no", question_type=kind)
    assert metric.compute()["rsvqa_overall"] == 0.75
    assert metric.compute()["rsvqa_mean"] == pytest.approx((1 + 2 / 3) / 2)
    one_type = metric.compute_weighted(np.array([[0.0, 1, 1, 1]]))
    assert one_type["rsvqa_mean"][0] == pytest.approx(2 / 3)


def test_a_question_without_a_type_is_refused_with_the_way_out() -> None:
    assert all(math.isnan(value) for value in Rsvqa().compute().values())
    with pytest.raises(DataError, match=r"rows\.jsonl:1: .*data\.attributes=\[question_type\]"):
        judge(Rsvqa(), "yes", "yes")
