"""What pages with a gallery are made of: cards of one image each, and small tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from palitune.report.drawing import printable
from palitune.report.pages import Thumbnail

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable


@dataclass(frozen=True, kw_only=True)
class Card:
    """One image with the texts that belong to it."""

    id: str
    kind: str
    """What the page's filter tells cards apart by."""
    grade: str
    """Look of the mark: full | partial | zero | malformed; empty: plain."""
    mark: str
    labels: list[str]
    """Of the objects in it, for the filter."""
    picture: Thumbnail | None
    lines: list[tuple[str, str]]
    """(caption, text) of what is always shown."""
    details: list[tuple[str, str]] = field(default_factory=list)
    """(caption, text) of what is folded away."""


@dataclass(frozen=True)
class Table:
    """Rows of text, the same on a page and in the terminal."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""

    def for_terminal(self) -> "TerminalTable":
        from rich.box import SIMPLE
        from rich.markup import escape
        from rich.table import Table as TerminalTable

        table = TerminalTable(box=SIMPLE, caption=escape(self.note) or None, caption_justify="left")
        for number, name in enumerate(self.columns):
            side: Literal["left", "right"] = "right" if number else "left"
            table.add_column(name, justify=side, overflow="fold")
        for row in self.rows:
            table.add_row(*(escape(printable(cell)) for cell in row))
        return table
