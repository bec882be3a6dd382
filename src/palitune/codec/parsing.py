"""Strict JSON and YAML: every fault of a file is a ValueError whose text is one line."""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

_MAX_BRACKETS = 500
_LONG_NUMBER = re.compile(rb"\d{19}")
MAX_YAML_CHARACTERS = 1_000_000
MAX_YAML_DEPTH = 30
"""Limits of a YAML file; a configuration of this program has a few thousand characters."""


def check_yaml(text: str) -> list[str]:
    """Check the structure of a YAML text before it is built; return its scalars.

    Aliases are refused, because a few lines of them stand for gigabytes, and a collection can
    contain itself.

    Raises:
        ValueError: The text is not YAML, has an alias, or is too long or nested too deeply.
    """
    import yaml  # type: ignore[import-untyped]

    if len(text) > MAX_YAML_CHARACTERS:
        raise ValueError(f"more than {MAX_YAML_CHARACTERS} characters")
    depth, scalars = 0, []
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            place = f"line {event.start_mark.line + 1}"
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"an alias (*{event.anchor}), {place}")
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.ScalarEvent):
                scalars.append(event.value)
            if depth > MAX_YAML_DEPTH:
                raise ValueError(f"nested too deeply, {place}")
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if any(map(has_lone_surrogate, scalars)):
        raise ValueError("a text has half of a surrogate pair (\\ud800 to \\udfff)")
    return scalars


def format_json(content: Any, indent: int | None = None) -> str:
    """Return strict JSON; NaN and infinities, which JSON does not have, become null."""
    finite = _replace_non_finite(content)
    return json.dumps(finite, indent=indent, ensure_ascii=False, allow_nan=False)


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _replace_non_finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(inner) for inner in value]
    return value


def parse_json(
    text: str | bytes,
    object_hook: Callable[[dict[str, Any]], Any] | None = None,
    *,
    allow_surrogates: bool = False,
) -> Any:
    """Parse JSON that can be written again as UTF-8.

    Args:
        text: The text; bytes are UTF-8, with or without a byte order mark.
        object_hook: Replaces each object while the text is parsed.
        allow_surrogates: Accept half of a surrogate pair, for texts that are only displayed.

    Raises:
        ValueError: The text is not JSON, is nested too deeply, or contains half of a surrogate
            pair, which cannot be written to a file.
    """
    if (
        object_hook is None
        and isinstance(text, bytes)
        and (common := _parse_common(text)) is not None
    ):
        return common
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
    if allow_surrogates:
        return parsed
    # Only an escape can stand for half a surrogate pair: UTF-8 has no bytes for it.
    if ("\\ud" in decoded or "\\uD" in decoded) and has_lone_surrogate(
        json.dumps(parsed, ensure_ascii=False, default=str)
    ):
        raise ValueError("a text has half of a surrogate pair (\\ud800 to \\udfff)")
    return parsed


def _parse_common(text: bytes) -> Any:
    """Parse JSON by the fast library; None if that fails or may differ from Python's parser.

    It reads integers beyond 64 bits as floats, and nests deeper than Python's functions do.
    """
    if text.count(b"[") + text.count(b"{") > _MAX_BRACKETS or _LONG_NUMBER.search(text):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def dump_json(content: Any) -> str:
    """Return compact JSON of texts, finite numbers below 2^63, lists, tuples and dictionaries."""
    return orjson.dumps(content).decode()


def has_lone_surrogate(text: str) -> bool:
    """Return whether a text has half of a surrogate pair, which UTF-8 cannot encode."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
