"""Similarity of tables: cases counted by hand, and the definition of the edit distance itself."""

import time
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.metrics.text.teds import (
    MAX_CHARACTERS,
    TableNode,
    TableTooLargeError,
    Teds,
    _tree_edit_distance,
    teds,
)
from palitune.records import Example, Prediction


def table(*rows: str) -> str:
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


TWO = table("<td>a</td><td>b</td>", "<td>c</td><td>d</td>")  # 6 nodes below the table
HEADED = TWO.replace("<tr>", "<thead><tr>", 1).replace("</tr>", "</tr></thead>", 1)


@pytest.mark.parametrize(
    ("answer", "content", "structure"),
    [
        (TWO, 1, 1),
        (f"<html><body>{TWO}</body></html>", 1, 1),
        (TWO.replace(">b<", ">x<"), 1 - 1 / 6, 1),
        (TWO.replace(">b<", ">bxxx<"), 1 - 0.75 / 6, 1),
        (table("<td>a</td><td>b</td>"), 1 - 3 / 6, 1 - 3 / 6),
        (TWO.replace("<td>b</td>", ""), 1 - 1 / 6, 1 - 1 / 6),
        (TWO.replace("<td>b", '<td colspan="2">b'), 1 - 1 / 6, 1 - 1 / 6),
        (TWO.replace("<td>a", '<td rowspan="1">a'), 1, 1),
        # two of three tokens differ, and the tag counts among the nodes
        (TWO.replace(">b<", "><b>b</b><"), 1 - (2 / 3) / 7, 1),
        (TWO.replace("</td>", "").replace("</tr>", ""), 1, 1),
        (HEADED, 1 - 1 / 7, 1 - 1 / 7),
        ("", 0, 0),
        ("a b c d", 0, 0),
        ("<table>", 0, 0),
    ],
)
def test_tables_are_as_alike_as_counted_by_hand(
    answer: str, content: float, structure: float
) -> None:
    assert teds(answer, TWO) == pytest.approx(content)
    assert teds(answer, TWO, structure_only=True) == pytest.approx(structure)
    assert teds(TWO, answer) == pytest.approx(content)


def test_characters_that_html_escapes_are_one() -> None:
    assert teds(table("<td>&lt;</td>"), table("<td>&lt;5</td>")) == pytest.approx(1 - 0.5 / 2)


Tree = tuple[str, tuple["Tree", ...]]
TREES = st.recursive(
    st.sampled_from("ab").map(lambda tag: (tag, ())),
    lambda below: st.tuples(st.sampled_from("ab"), st.lists(below, max_size=3).map(tuple)),
    max_leaves=5,
)


@cache
def edits(first: tuple[Tree, ...], second: tuple[Tree, ...]) -> int:
    """The distance of two forests as it is defined: by what becomes of their last roots."""
    if not first or not second:
        return sum(1 + edits(tree[1], ()) for tree in (*first, *second))
    (tag, below), (other, under) = first[-1], second[-1]
    return min(
        edits((*first[:-1], *below), second) + 1,
        edits(first, (*second[:-1], *under)) + 1,
        edits(first[:-1], second[:-1]) + edits(below, under) + (tag != other),
    )


def node(tree: Tree) -> TableNode:
    return TableNode(tree[0], children=[node(child) for child in tree[1]])


@given(TREES, TREES)
def test_the_distance_is_what_its_definition_says(first: Tree, second: Tree) -> None:
    assert _tree_edit_distance(node(first), node(second), structure_only=False) == edits(
        (first,), (second,)
    )


MARKUP = st.lists(
    st.sampled_from(
        ["<table>", "<tr>", "<td>", "</td>", "<![", "<![CDATA[", "[", "]]>", "<!--", "<!", "<?",
         "</", "<", "&", "&#", "&#x110000;", "a", "<b>", "</b>", "<td colspan=", '"', "'", ">",
         "<script>", "\0"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(MARKUP | st.text())
def test_any_answer_has_a_similarity(answer: str) -> None:
    assert -1 <= teds("<table>" + answer, TWO) <= 1
    assert -1 <= teds(answer, TWO, structure_only=True) <= 1


def test_a_marked_section_is_no_content() -> None:
    assert teds(TWO.replace(">b<", "><![[/red]>b<"), TWO) == 1
    assert teds(TWO.replace(">b<", "><![CDATA[x]]>b<"), TWO) == 1


HOSTILE = {
    "deep": "<table>" + "<div>" * 6000,
    "deep cells": "<table><tr><td>" + "<b>" * 6000 + "</i>" * 6000,
    "long": "<table>" + "x" * MAX_CHARACTERS,
    "many cells": "<table>" + "<tr>" + "<td>" * 30_000,
    "many rows": "<table>" + "<tr><td>x</td></tr>" * 5000,
    "much content": "<table><tr>" + "<td>" + "<td>".join(["x" * 90_000] * 2),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_a_table_beyond_the_limits_scores_0_and_is_counted(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    metric = Teds()
    reference = table(*["<td>a</td><td>b</td>" * 10] * 20)
    example = Example(
        id="7", images=(), size=(1, 1), prefix="", suffixes=(), reference=(reference,), location=""
    )
    started = time.process_time()
    scores = metric.update(example, Prediction(id="7", text=answer, value=answer))
    assert time.process_time() - started < 10
    assert scores == {"teds": 0.0, "teds_structure": 0.0}
    assert metric.num_too_large == 1
    assert "teds: example 1 scores 0: " in caplog.text


def test_tables_beyond_the_limits_raise_an_error() -> None:
    with pytest.raises(TableTooLargeError, match="must not nest more than 100 elements"):
        teds(HOSTILE["deep"], TWO)
