"""Strict JSON from files: every fault is a ValueError whose text is one line."""

import json
from collections.abc import Callable
from typing import Any


def parse_json(
    text: str | bytes, object_hook: Callable[[dict[str, Any]], Any] | None = None
) -> Any:
    """Parse JSON that can be written again as UTF-8.

    Args:
        text: The text; bytes are UTF-8, with or without a byte order mark.
        object_hook: Replaces each object while the text is parsed.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or contains half of a surrogate
            pair, which cannot be written to a file.
    """
    try:
        decoded = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        parsed = json.loads(decoded, object_hook=object_hook)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"{error.msg}, {place}column {error.colno}") from None
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8, byte {error.start}") from None
    # Only an escape can stand for half a surrogate pair: UTF-8 has no bytes for it.
    if ("\\ud" in decoded or "\\uD" in decoded) and has_lone_surrogate(
        json.dumps(parsed, ensure_ascii=False, default=str)
    ):
        raise ValueError("a text has half of a surrogate pair (\\ud800 to \\udfff)")
    return parsed


def has_lone_surrogate(text: str) -> bool:
    """Return whether a text has half of a surrogate pair, which UTF-8 cannot encode."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
