"""Text for pages, plots and the terminal: escaping and truncation."""

import re

# Control characters except tab and newline, bidirectional overrides and isolates, lone surrogates.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_unprintable(text: str) -> str:
    """Replace characters that would garble their surroundings by escapes: `\\u0000`, `\\u202e`."""
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def truncate(text: str, max_length: int) -> str:
    """Shorten a text to `max_length` characters, the last of which is then an ellipsis."""
    return text if len(text) <= max_length else text[: max_length - 1] + "…"
