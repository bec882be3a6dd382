"""Settings whose value is text: commas, braces and brackets in it have no special meaning."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from hydra.core.override_parser.types import Quote, QuotedString

from palitune.config.recipes import GROUPS, RecipeConfig

FREE_TEXT_KEYS = ("prompt", "task.prompt", "task.template", "task.noise")
"""Settings that are sentences; other texts, such as paths, may be swept."""
_SPECIAL = re.compile(r"[,{}\[\]()'\":=\\\n]")


def quote_text(override: str, schema: type[RecipeConfig], *, sweep: bool = False) -> str:
    """Quote the value of an override whose setting is text, if it would be read as anything else.

    Args:
        override: KEY=VALUE.
        schema: Configuration dataclass of the recipe.
        sweep: Whether several values of a setting are several runs, unless it is a sentence.
    """
    match = re.fullmatch(r"([\w.]+)=(.*)", override, re.DOTALL)
    if match is None or _is_quoted(match[2]) or not _SPECIAL.search(match[2]):
        return override
    key, value = match[1], match[2]
    is_text = key in FREE_TEXT_KEYS or (not sweep and str in set(_types_of(key, schema)))
    if not is_text or value.startswith("${"):
        return override
    return f"{key}={QuotedString(text=value, quote=Quote.single).with_quotes()}"


def _is_quoted(value: str) -> bool:
    """Return whether a value is one quoted string, or a list or sweep of quoted strings."""
    return re.fullmatch(r"(['\"])(?:\\.|(?!\1).)*\1(,.*)?", value, re.DOTALL) is not None


def _types_of(key: str, schema: type[RecipeConfig]) -> Iterator[Any]:
    """Yield the possible types of a setting; a group has those of all its options."""
    first, *rest = key.split(".")
    types = GROUPS[first].values() if first in GROUPS else [schema]
    for owner in types:
        yield from _field_types(owner, rest if first in GROUPS else [first, *rest])


def _field_types(owner: Any, steps: list[str]) -> Iterator[Any]:
    if not steps or not is_dataclass(owner):
        return
    step, *rest = steps
    if step not in {field.name for field in fields(owner)}:
        return
    hint = get_type_hints(owner)[step]
    for kind in get_args(hint) if type(None) in get_args(hint) else (hint,):
        if rest and is_dataclass(kind):
            yield from _field_types(kind, rest)
        elif rest and getattr(kind, "__origin__", None) is dict:
            yield get_args(kind)[1]
        elif not rest:
            yield kind
