"""The boxes of cells stand in the HTML that is learned, and not in what is judged."""

import pytest

from palitune.errors import DataError
from palitune.records import Instance, Row
from palitune.tasks.table_structure import TableStructure

HTML = '<table><tr><td>a</td><td></td></tr><tr><td colspan="2">b</td></tr></table>'
BOX = Instance("2", (0, 50, 100, 100))


def row(*cells: Instance, text: str | None = HTML) -> Row:
    return Row(
        id="1", images=("t.png",), size=(100, 100), location="t:1", text=text, instances=cells
    )


def test_a_box_is_an_attribute_of_its_cell_with_x_first() -> None:
    example = TableStructure().example(row(Instance("0", (10, 20, 30, 40)), BOX))
    assert example.prefix == "table"
    [suffix] = example.suffixes
    first = '<td coords="<loc0102><loc0205><loc0307><loc0409>">a</td><td></td>'
    third = '<td coords="<loc0000><loc0512><loc1023><loc1023>" colspan="2">b</td>'
    assert suffix == f"<table><tr>{first}</tr><tr>{third}</tr></table>"
    assert example.reference == (HTML,)


def test_answers_are_read_without_boxes_whatever_they_are() -> None:
    task = TableStructure()
    [suffix] = task.example(row(BOX)).suffixes
    assert task.parse(suffix, (100, 100)) == HTML
    assert task.parse(" no table ", (100, 100)) == "no table"


def test_a_suffix_of_the_row_is_judged_without_its_boxes() -> None:
    task = TableStructure()
    [suffix] = task.example(row(BOX)).suffixes
    given = Row(**{**vars(row()), "suffix": suffix})
    assert task.example(given).reference == (HTML,)


def test_a_table_without_text_or_with_a_box_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match="t:1: column 'text' is missing"):
        TableStructure().example(row(BOX, text=None))
    with pytest.raises(DataError, match="t:1: "):
        TableStructure().example(row(Instance("0", (float("nan"), 0, 1, 1))))
