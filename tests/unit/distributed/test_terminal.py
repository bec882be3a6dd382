"""Brackets, backslashes and control characters of a user reach the terminal as they are."""

import io

import pytest
import rich
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress

from palitune.distributed.terminal import escape_markup, escape_unprintable, print_line

MARKUP = st.lists(
    st.sampled_from(
        ["[", "]", "[/]", "[/red]", "[bold]", "\\", "[link=x]", "a", ":smile:", "\x1b["]
    )
).map("".join)


@given(MARKUP)
def test_a_text_is_printed_as_it_is(text: str) -> None:
    rich.get_console().file = file = io.StringIO()
    print_line(text, "✓", "green")
    assert file.getvalue().replace("\n", "") == f"✓ {escape_unprintable(text)}"


@given(MARKUP)
def test_a_description_of_a_progress_bar_is_no_markup(text: str) -> None:
    console = Console(file=io.StringIO(), width=400)
    with Progress(console=console, disable=False) as progress:
        progress.add_task(escape_markup(text), total=None)
        progress.refresh()


def test_a_folder_name_with_markup_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    rich.get_console().file = None  # type: ignore[assignment]
    print_line("report: runs/[/red]x/report.html")
    assert "[/red]x" in capsys.readouterr().out
