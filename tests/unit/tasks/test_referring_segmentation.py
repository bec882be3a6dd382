"""Referring segmentation: one expression, one object, with and without verb and label."""

import dataclasses
from typing import Any

import pytest

from palitune.codec import masks
from palitune.codec.grammar import ObjectGrammar
from palitune.errors import DataError
from palitune.records import Instance, Row
from palitune.tasks.referring_segmentation import ReferringSegmentation

from support.toy_data import toy_mask

SIZE = (120, 90)
BOX = (20, 50, 60, 80)
BOAT = Instance("boat", BOX, mask=toy_mask(SIZE, BOX))
ROW = Row(
    id="17",
    images=("/harbour.jpg",),
    size=SIZE,
    location="boats.jsonl:17",
    question=" the left boat; not the right one ",
    instances=(BOAT,),
)
SHAPE = masks.encode(
    [dataclasses.replace(BOAT, label="")], SIZE, masks.load_codec("embedded"), labelled=False
)


def with_columns(**columns: Any) -> Row:
    return dataclasses.replace(ROW, **columns)


def test_the_transfer_writes_neither_verb_nor_label() -> None:
    example = ReferringSegmentation().example(ROW)
    assert example.prefix == "the left boat; not the right one"
    assert example.suffixes == (SHAPE,)
    assert example.reference == (dataclasses.replace(BOAT, label=""),)


def test_pre_training_writes_both() -> None:
    row = with_columns(question="the left boat")
    example = ReferringSegmentation(include_verb=True, include_label=True).example(row)
    assert example.prefix == "segment the left boat"
    assert example.suffixes == (f"{SHAPE} the left boat",)
    assert example.reference == (dataclasses.replace(BOAT, label="the left boat"),)


def test_the_first_readable_object_is_the_answer() -> None:
    task = ReferringSegmentation()
    other = SHAPE.replace("<loc", "<loc0", 0)
    assert task.parse("the boat", SIZE) is None
    assert task.parse("", SIZE) is None
    value = task.parse(f"<loc0001> ; {SHAPE} boat ; {other}", SIZE, lambda start, end: 0.5)
    assert value is not None
    assert [(i.label, i.score) for i in value] == [("boat", 0.5)]
    assert ReferringSegmentation(include_label=True).parse(SHAPE, SIZE) is None


def test_a_suffix_of_the_row_is_the_reference() -> None:
    task = ReferringSegmentation()
    example = task.example(with_columns(suffix=SHAPE, instances=None))
    assert (example.suffixes, example.reference) == ((SHAPE,), task.parse(SHAPE, SIZE))


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"question": None}, {}, "column 'expression' is missing, but this task requires it"),
        ({"question": "  "}, {}, "column 'expression' contains an empty text"),
        ({"instances": None}, {}, "column 'instances' is missing, but this task requires it"),
        (
            {"instances": ()},
            {},
            "column 'instances' has 0 objects, but this task requires exactly one",
        ),
        ({"instances": (BOAT, BOAT)}, {}, "column 'instances' has 2 objects"),
        ({"instances": (dataclasses.replace(BOAT, mask=None),)}, {}, "object '' has no mask"),
        ({}, {"include_label": True}, "label 'the left boat; not the right one' contains ';'"),
        ({"suffix": "a boat"}, {}, "suffix 'a boat' is not '<locY0>"),
        ({"suffix": f"{SHAPE} ; {SHAPE}"}, {}, "suffix"),
        ({"suffix": SHAPE}, {"include_label": True}, "suffix"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_place(
    columns: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as refusal:
        ReferringSegmentation(**settings).example(with_columns(**columns))
    assert str(refusal.value).startswith(f"boats.jsonl:17: {message}")


def test_an_answer_is_one_mask_with_the_expression_where_it_is_asked_for() -> None:
    bare = ObjectGrammar(("",), with_masks=True, max_objects=1, allow_empty=False)
    assert ReferringSegmentation().grammar("the left boat") == bare
    task = ReferringSegmentation(include_label=True, include_verb=True)
    labeled = ObjectGrammar(("the left boat",), with_masks=True, max_objects=1, allow_empty=False)
    assert task.grammar("segment the left boat") == labeled


def test_a_box_without_a_whole_mask_cannot_be_read() -> None:
    task = ReferringSegmentation()
    assert task.count_malformed(SHAPE) == 0
    assert task.count_malformed(SHAPE[: -len("<seg000>")]) == 1
