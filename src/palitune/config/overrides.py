"""Overrides of the command line: parsing, setting values, and the expansion of a sweep."""

import glob
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

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
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from palitune.config.aliases import suggest_key
from palitune.config.catalog import options
from palitune.config.error_messages import describe_type_error
from palitune.config.recipes import GROUPS, RecipeConfig
from palitune.config.search_space import Categorical, Domain, NumericRange
from palitune.errors import ConfigError, missing_choice, unknown_key


def parse_override(override: str) -> Override:
    """Parse key=value as Hydra does; a value outside its grammar, such as ~/boats, is a string."""
    parser = OverridesParser.create()
    try:
        return parser.parse_override(override)
    except HydraException:
        if plain := re.fullmatch(r"([\w.@/]+)=([^,{}\[\]'\"]+)", override):
            return parser.parse_override(f"{plain[1]}={quote_value(plain[2])}")
    hint = "; quote a string that has commas, braces or brackets: 'key=\"a, b\"'"
    raise ConfigError(f"{override!r} is not key=value{hint if '=' in override else ''}")


def quote_value(text: str) -> str:
    """Quote a string for Hydra."""
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def check_single_value(override: Override) -> None:
    """Raise ConfigError unless an override sets one value."""
    text = str(override.input_line)
    if override.type is OverrideType.DEL:
        raise ConfigError(f"{text}: a key cannot be deleted; choose another option or null")
    if override.type is not OverrideType.CHANGE:
        raise ConfigError(f"{text}: a key cannot be added; write {text.lstrip('+')}")
    if override.is_hydra_override():
        raise ConfigError(
            f"{text}: Hydra's own settings have no effect; set output_dir for the output folder"
        )
    if override.is_sweep_override():
        raise ConfigError(
            f"{text} has several values: add --multirun to run each of them, or write "
            "'key=[a,b]' for a list and 'key=\"a,b\"' for one string"
        )


def set_value(node: DictConfig, override: Override) -> None:
    """Set one value of a composed node. Only a plain dictionary accepts a new key."""
    key, value = override.key_or_group, override.value()
    steps = key.split(".")
    parent: Any = node
    for depth, step in enumerate(steps, start=1):
        is_last = depth == len(steps)
        accepts_new_key = is_last and OmegaConf.get_type(parent) is dict
        if not accepts_new_key and step not in list(parent):
            unknown = ".".join(steps[:depth])
            raise ConfigError(unknown_key(unknown, list(parent), suggest_key(unknown)))
        if value is not None and (schema := _optional_settings(parent, step)) is not None:
            parent[step] = OmegaConf.structured(schema)
        child = None if is_last else parent[step]
        if child is None and not is_last:  # a group whose option is not chosen
            raise ConfigError(f"{override.input_line}: {missing_choice(step, options(step))}")
        if not isinstance(child, DictConfig):
            break
        parent = child
    try:
        OmegaConf.update(node, key, value, merge=True)
    except OmegaConfBaseException as error:
        cause = "the value cannot be null"
        if value is not None:
            cause = describe_type_error(error, key, value)
        raise ConfigError(f"{override.input_line}: {cause}") from error


def _optional_settings(parent: DictConfig, step: str) -> type | None:
    """Return the dataclass of settings that are null, e.g. `data.tiles`; None for all else.

    OmegaConf does not merge a dictionary into null.
    """
    owner = OmegaConf.get_type(parent)
    if step in GROUPS or not is_dataclass(owner) or OmegaConf.is_missing(parent, step):
        return None
    if parent[step] is not None:
        return None
    kinds = get_args(get_type_hints(owner).get(step))
    return next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)


def expand_positional(schema: type[RecipeConfig], arguments: Sequence[str]) -> list[str]:
    """Rewrite positional arguments as a list setting: `compare a b` becomes `runs=['a','b']`.

    An argument is positional if it does not look like KEY=VALUE or is the path of an existing file.
    """
    field = schema.positional_field
    if field is None:
        return list(arguments)
    positional = [a for a in arguments if not re.match(r"[\w.@+~]+=", a) or Path(a).exists()]
    others = [argument for argument in arguments if argument not in positional]
    return (
        [*others, f"{field}=[{','.join(map(quote_value, positional))}]"] if positional else others
    )


def expand_sweep(
    overrides: Sequence[str], config_dir: str | None = None
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the overrides of each job of a sweep, and those of them that vary between jobs."""
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
    """Return the overrides that set one value, and the domain of each other setting by key."""
    single: list[str] = []
    domains: dict[str, Domain] = {}
    for override in map(parse_override, overrides):
        if override.is_sweep_override():
            domains[str(override.get_key_element())] = _parse_domain(override, config_dir)
        else:
            single.append(str(override.input_line))
    return single, domains


def _parse_domain(override: Override, config_dir: str | None) -> Domain:
    value = override.value()
    if not isinstance(value, IntervalSweep):
        values = (text.partition("=")[2] for text in _expand_values(override, config_dir))
        return Categorical(tuple(values))
    low, high = cast(float, value.start), cast(float, value.end)
    if not low < high:
        raise ConfigError(f"{override.input_line}: an interval needs a lower limit below its upper")
    log = "log" in value.tags
    if log and low <= 0:
        raise ConfigError(f"{override.input_line}: a logarithmic interval must lie above 0")
    is_integer = isinstance(low, int) and isinstance(high, int)
    return NumericRange(low, high, log=log, is_integer=is_integer)


def _expand_values(override: Override, config_dir: str | None) -> Iterator[str]:
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: a sweep cannot run an interval; list the values")
    value = override.value()
    if isinstance(value, Glob):
        values = _glob_values(override, value, config_dir)
    else:
        values = list(override.sweep_string_iterator())
    return (f"{override.get_key_element()}={value}" for value in values)


def _glob_values(override: Override, pattern: Glob, config_dir: str | None) -> list[str]:
    """Return the options of a group that match a pattern, or the matching paths for a setting."""
    group = override.key_or_group
    if group in GROUPS or "." not in group:
        return list(pattern.filter(list(options(group, config_dir))))
    paths = sorted({path for text in pattern.include for path in glob.glob(text)})
    paths = [path for path in paths if not any(fnmatch(path, e) for e in pattern.exclude)]
    # Folders of data may lie next to files about them.
    paths = [path for path in paths if Path(path).is_dir()] or paths
    if not paths:
        raise ConfigError(f"{override.input_line}: the pattern matches no folder or file")
    return [quote_value(path) for path in paths]
