"""Tasks about one object: the box of an expression, and what is said about a box."""

import dataclasses
from typing import Any

import pytest

from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.records import Instance, Row
from palitune.tasks.grounded_caption import GroundedCaption
from palitune.tasks.referring_detection import ReferringDetection

BOAT = Instance("boat", (20, 50, 30, 60))
BOX = "<loc0050><loc0020><loc0060><loc0030>"
ROW = Row(
    id="7-1",
    images=("/harbour.jpg",),
    size=(1023, 1023),
    location="refs.json, ref_id 7",
    expression=" the left boat ",
    instances=(BOAT,),
    classes=("boat",),
)


def with_columns(**columns: Any) -> Row:
    return dataclasses.replace(ROW, **columns)


def test_an_expression_is_the_prompt_and_its_box_the_answer() -> None:
    example = ReferringDetection().example(ROW)
    assert (example.prefix, example.suffixes) == ("the left boat", (BOX,))
    assert example.reference == (Instance("", BOAT.box),)


def test_verb_and_label_may_be_written_as_in_pre_training() -> None:
    example = ReferringDetection(include_verb=True, include_label=True).example(ROW)
    assert (example.prefix, example.suffixes) == ("detect the left boat", (f"{BOX} the left boat",))
    assert example.reference == (Instance("the left boat", BOAT.box),)


def test_a_question_serves_as_expression() -> None:
    row = with_columns(expression=None, question="the boat")
    assert ReferringDetection().prefix(row) == "the boat"


def test_the_first_box_of_an_answer_counts() -> None:
    task = ReferringDetection()
    assert task.parse(f"{BOX} ; <loc0000><loc0000><loc0009><loc0009>", ROW.size) == (
        Instance("", BOAT.box),
    )
    assert task.parse("a boat", ROW.size) is None
    assert task.parse("", ROW.size) is None


def test_a_box_is_the_prompt_and_what_is_said_about_it_the_answer() -> None:
    example = GroundedCaption().example(ROW)
    assert (example.prefix, example.suffixes) == (f"caption {BOX}", ("the left boat",))
    captioned = with_columns(captions=("A boat.", "A red boat."))
    assert GroundedCaption(template="{box}").example(captioned).prefix == BOX
    assert GroundedCaption().example(captioned).reference == ("A boat.", "A red boat.")


@pytest.mark.parametrize(
    ("task", "columns", "why"),
    [
        (ReferringDetection(), {"expression": None}, "column 'expression' is missing"),
        (ReferringDetection(), {"expression": " "}, "column 'expression' contains an empty text"),
        (ReferringDetection(), {"instances": None}, "column 'instances' is missing"),
        (ReferringDetection(), {"instances": ()}, "column 'instances' has 0 objects, but this"),
        (
            ReferringDetection(include_label=True),
            {"expression": "a;b"},
            "label 'a;b' contains ';', a <loc>/<seg> token or outer spaces",
        ),
        (ReferringDetection(), {"suffix": "boat"}, "suffix 'boat' is not '<locY0>"),
        (ReferringDetection(), {"suffix": f"{BOX} ; {BOX}"}, "suffix '<loc0050>"),
        (GroundedCaption(), {"instances": (BOAT, BOAT)}, "column 'instances' has 2 objects"),
        (GroundedCaption(), {"expression": None}, "column 'captions' is missing"),
        (
            GroundedCaption(),
            {"instances": (dataclasses.replace(BOAT, box=(9, 0, 5, 5)),)},
            "box (9, 0, 5, 5) is inverted",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_place(
    task: Any, columns: dict[str, Any], why: str
) -> None:
    with pytest.raises(DataError) as refusal:
        task.example(with_columns(**columns))
    assert str(refusal.value).startswith(f"refs.json, ref_id 7: {why}")


def test_a_template_without_a_known_placeholder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"task\.template: unknown placeholder \{label\}"):
        GroundedCaption(template="caption {label}")


def test_an_answer_is_one_box_with_the_expression_where_it_is_asked_for() -> None:
    bare = ObjectGrammar(("",), max_objects=1, allow_empty=False)
    assert ReferringDetection().grammar("the left boat") == bare
    labeled = ObjectGrammar(("the left boat",), max_objects=1, allow_empty=False)
    assert ReferringDetection(include_label=True).grammar("the left boat") == labeled
    assert (
        ReferringDetection(include_label=True, include_verb=True).grammar("detect the left boat")
        == labeled
    )
    assert ReferringDetection(include_label=True).grammar("the boat; the left one") is None


def test_what_no_box_can_be_read_from_is_counted() -> None:
    assert ReferringDetection().count_malformed(f"{BOX} ; <loc0001>") == 1
    assert ReferringDetection(include_label=True).count_malformed(BOX) == 1
