"""Text for pages, plots and the terminal: escaping and truncation."""

from palitune.distributed.terminal import escape_unprintable

__all__ = ["escape_unprintable", "truncate"]


def truncate(text: str, max_length: int) -> str:
    """Shorten a text to `max_length` characters, the last of which is then an ellipsis."""
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
