"""Tables are the same on a page and in the terminal."""

import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from palitune.report.pages.gallery import TextTable, relative_to_max


def printed(table: TextTable) -> str:
    file = io.StringIO()
    Console(file=file, width=100).print(table.to_rich())
    return file.getvalue()


def test_a_table_is_printed_with_its_note_and_without_markup() -> None:
    said = printed(
        TextTable(("label", "objects"), [("[red]boat", "3"), ("a\x1bb", "1")], "and [1] more")
    )
    for text in ("label", "objects", "[red]boat", "3", r"a\u001bb", "and [1] more"):
        assert text in said


@given(st.lists(st.integers(0, 10**6)))
def test_bars_are_shares_of_the_longest(counts: list[int]) -> None:
    lengths = relative_to_max(counts)
    assert len(lengths) == len(counts)
    assert all(0 <= length <= 1 for length in lengths)
    if max(counts, default=0) > 0:
        assert max(lengths) == 1
