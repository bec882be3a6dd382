"""Lines on the terminal: text of the user or of a model is never parsed as markup."""

import re

# Control characters except tab and newline, bidirectional overrides and isolates, lone surrogates.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_unprintable(text: str) -> str:
    """Replace characters that would garble their surroundings by escapes: `\\u0000`, `\\u202e`."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def print_line(text: str, mark: str = "", color: str = "") -> None:
    """Print a text, after a colored mark if there is one. Brackets in it are plain characters."""
    import rich
    from rich.text import Text

    parts = [(f"{mark} ", color)] if mark else []
    rich.print(Text.assemble(*parts, escape_unprintable(text)))


def escape_markup(text: str) -> str:
    """Return a text for places that take only markup, such as the description of a progress bar.

    Every opening bracket is escaped; a backslash at the end would escape what follows.
    """
    from rich.markup import escape

    return escape(escape_unprintable(text)).rstrip("\\")
