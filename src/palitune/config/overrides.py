"""What a command line says, key=value by key=value, and the jobs that a sweep makes of it."""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    IntervalSweep,
    Override,
    OverrideType,
    Quote,
    QuotedString,
)
from hydra.errors import HydraException

from palitune.cli.help import options
from palitune.config.recipes import RECIPE_CONFIGS
from palitune.config.search_space import Categorical, Domain, NumericRange
from palitune.errors import ConfigError


def parse_override(override: str) -> Override:
    """Parse key=value as Hydra does; a value outside its grammar, such as ~/boats, is a text."""
    parser = OverridesParser.create()
    try:
        return parser.parse_override(override)
    except HydraException:
        if plain := re.fullmatch(r"([\w.@/]+)=([^,{}\[\]'\"]+)", override):
            return parser.parse_override(f"{plain[1]}={quote_value(plain[2])}")
    hint = "; put quotes around a text with commas, braces or brackets: 'key=\"a, b\"'"
    raise ConfigError(f"{override!r} is not key=value{hint if '=' in override else ''}")


def quote_value(text: str) -> str:
    """Quote a text so that Hydra reads it as it stands."""
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def check_single_value(override: Override) -> None:
    """Check that an override gives one value. Raises ConfigError."""
    text = str(override.input_line)
    if override.type is OverrideType.DEL:
        raise ConfigError(f"{text}: nothing can be deleted; choose another option, or null")
    if override.type is not OverrideType.CHANGE:
        raise ConfigError(f"{text}: no key can be added; write {text.lstrip('+')}")
    if override.is_hydra_override():
        raise ConfigError(f"{text}: Hydra's own settings have no effect; output_dir is the folder")
    if override.is_sweep_override():
        raise ConfigError(
            f"{text} names several values: add --multirun to run each of them, or write "
            "'key=[a,b]' for a list and 'key=\"a,b\"' for one text"
        )


def expand_positional(recipe_name: str, arguments: Sequence[str]) -> list[str]:
    """Write bare words as the list that they belong to: `compare a b` as `runs=['a','b']`.

    A word has no `=` after a key, or is the name of something that exists.
    """
    into = RECIPE_CONFIGS[recipe_name].positional_field
    if into is None:
        return list(arguments)
    words = [a for a in arguments if not re.match(r"[\w.@+~]+=", a) or Path(a).exists()]
    others = [argument for argument in arguments if argument not in words]
    return [*others, f"{into}=[{','.join(map(quote_value, words))}]"] if words else others


def expand_sweep(
    overrides: Sequence[str], config_dir: str | None = None
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the overrides of every job of a sweep, and those of them that are swept."""
    columns: list[list[str]] = []
    swept: list[int] = []
    for override in map(parse_override, overrides):
        if override.is_sweep_override():
            swept.append(len(columns))
            columns.append(list(_expand_values(override, config_dir)))
        else:
            columns.append([str(override.input_line)])
    for job in itertools.product(*columns):
        yield list(job), [job[column] for column in swept]


def parse_search_space(
    overrides: Sequence[str], config_dir: str | None = None
) -> tuple[list[str], dict[str, Domain]]:
    """Return the overrides that give one value, and by key what the others choose from."""
    single: list[str] = []
    chosen_from: dict[str, Domain] = {}
    for override in map(parse_override, overrides):
        if override.is_sweep_override():
            chosen_from[str(override.get_key_element())] = _parse_domain(override, config_dir)
        else:
            single.append(str(override.input_line))
    return single, chosen_from


def _parse_domain(override: Override, config_dir: str | None) -> Domain:
    value = override.value()
    if not isinstance(value, IntervalSweep):
        values = (text.partition("=")[2] for text in _expand_values(override, config_dir))
        return Categorical(tuple(values))
    low, high = cast(float, value.start), cast(float, value.end)
    if not low < high:
        raise ConfigError(f"{override.input_line}: an interval goes from less to more")
    as_log = "log" in value.tags
    if as_log and low <= 0:
        raise ConfigError(f"{override.input_line}: a logarithmic interval must lie above 0")
    return NumericRange(
        low, high, log=as_log, is_integer=isinstance(low, int) and isinstance(high, int)
    )


def _expand_values(override: Override, config_dir: str | None) -> Iterator[str]:
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: an interval has no values to run; list them")
    value = override.value()
    if isinstance(value, Glob):
        values = value.filter(list(options(override.key_or_group, config_dir)))
    else:
        values = list(override.sweep_string_iterator())
    return (f"{override.get_key_element()}={value}" for value in values)
