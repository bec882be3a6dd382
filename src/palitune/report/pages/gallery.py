"""What pages with a gallery are made of: cards of one image each, and small tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from palitune.report.images.drawing import escape_unprintable
from palitune.report.page_stack import Thumbnail

if TYPE_CHECKING:
    from rich.table import Table as TerminalTable


@dataclass(frozen=True, kw_only=True)
class GalleryCard:
    """One image with the texts that belong to it."""

    id: str
    kind: str
    """What the page's filter tells cards apart by."""
    grade: str
    """Look of the mark: full | partial | zero | malformed; empty: plain."""
    badge: str
    labels: list[str]
    """Of the objects in it, for the filter."""
    thumbnail: Thumbnail | None
    texts: list[tuple[str, str]]
    """(caption, text) of what is always shown."""
    details: list[tuple[str, str]] = field(default_factory=list)
    """(caption, text) of what is folded away."""


@dataclass(frozen=True)
class TextTable:
    """Rows of text, the same on a page and in the terminal."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""
    bar_lengths: Sequence[float] = ()
    """Length of a bar in each row of the page, in [0, 1]; empty: no bars."""

    def to_rich(self) -> "TerminalTable":
        from rich.box import SIMPLE
        from rich.markup import escape
        from rich.table import Table as TerminalTable

        table = TerminalTable(box=SIMPLE, caption=escape(self.note) or None, caption_justify="left")
        for number, name in enumerate(self.columns):
            side: Literal["left", "right"] = "right" if number else "left"
            table.add_column(name, justify=side, overflow="fold", min_width=12 if not number else 0)
        for row in self.rows:
            table.add_row(*(escape(escape_unprintable(cell)) for cell in row))
        return table


def relative_to_max(counts: Sequence[int]) -> list[float]:
    """Return every count as a share of the largest."""
    largest = max([1, *counts])
    return [round(count / largest, 3) for count in counts]
