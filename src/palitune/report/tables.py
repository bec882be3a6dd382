"""Tables of text, the same on a page, in the terminal and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Union

from palitune.report.text import escape_unprintable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Cell = Union[str, "Text"]
"""A text; styled only in the terminal."""


@dataclass(frozen=True)
class TextTable:
    """A table whose first column names the rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    title: str = ""
    bar_lengths: Sequence[float] = ()
    """Length of a bar in each row of the page, in [0, 1]; empty: no bars."""
    grouped: bool = False
    """Whether the first column names groups of rows, and the second one the rows."""

    def to_rich(self) -> "Table":
        """Return the table for the terminal, where the name of a group is printed once."""
        from rich.box import SIMPLE
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=SIMPLE,
            title=Text(self.title) if self.title else None,
            caption=Text(self.note) if self.note else None,
            caption_justify="left",
        )
        for number, name in enumerate(self.columns):
            side: Literal["left", "right"] = "left" if number <= self.grouped else "right"
            table.add_column(
                Text(name), justify=side, overflow="fold", min_width=0 if number else 12
            )
        group = None
        for row in self.rows:
            first, *others = map(_to_text, row)
            if self.grouped and group not in (None, first.plain):
                table.add_section()
            table.add_row("" if self.grouped and group == first.plain else first, *others)
            group = first.plain
        return table

    def to_markdown(self) -> str:
        """Return the rows as a Markdown table, numbers aligned to the right."""
        rule = ["---" if n <= self.grouped else "---:" for n in range(len(self.columns))]
        rows = [[escape_markdown(str(cell)) for cell in row] for row in self.rows]
        lines = [map(escape_markdown, self.columns), rule, *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def relative_to_max(counts: Sequence[int]) -> list[float]:
    """Return every count as a share of the largest."""
    largest = max([1, *counts])
    return [round(count / largest, 3) for count in counts]


def escape_markdown(text: str) -> str:
    """Escape what would end a table cell or format the text; a newline becomes `<br>`."""
    for mark in "\\|*<`":
        text = text.replace(mark, "\\" + mark)
    return text.replace("\n", "<br>")


def _to_text(cell: Cell) -> "Text":
    from rich.text import Text

    return cell if isinstance(cell, Text) else Text(escape_unprintable(cell))
