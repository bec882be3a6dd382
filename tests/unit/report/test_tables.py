"""Tables have the same content on a page, in the terminal and in Markdown."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from palitune.report.tables import TextTable, relative_to_max


def printed(table: TextTable) -> str:
    file = io.StringIO()
    Console(file=file, width=100).print(table.to_rich())
    return file.getvalue()


def test_a_table_is_printed_with_title_and_note_and_without_markup() -> None:
    output = printed(
        TextTable(
            ("label", "objects"), [("[red]boat", "3"), ("a\x1bb", "1")], "and [1] more", "[b]Boats"
        )
    )
    for text in ("[b]Boats", "label", "objects", "[red]boat", "3", r"a\u001bb", "and [1] more"):
        assert text in output


def test_the_name_of_a_group_is_printed_once_and_repeated_in_markdown() -> None:
    rows = [("ocr", Text("cer", "bold"), "1"), ("ocr", "wer", "2"), ("vqa", "cer", "3")]
    table = TextTable(("part", "metric", "value"), rows, grouped=True)
    assert printed(table).count("ocr") == 1
    assert table.to_markdown().splitlines() == [
        "| part | metric | value |",
        "| --- | --- | ---: |",
        "| ocr | cer | 1 |",
        "| ocr | wer | 2 |",
        "| vqa | cer | 3 |",
    ]


def test_a_markdown_cell_contains_no_markup() -> None:
    table = TextTable(("a|b",), [("<i>\n*x*",)])
    assert table.to_markdown().splitlines() == [r"| a\|b |", "| --- |", r"| \<i><br>\*x\* |"]


@given(st.lists(st.integers(0, 10**6)))
def test_bars_are_shares_of_the_largest_count(counts: list[int]) -> None:
    lengths = relative_to_max(counts)
    assert len(lengths) == len(counts)
    assert all(0 <= length <= 1 for length in lengths)
    if max(counts, default=0) > 0:
        assert max(lengths) == 1
