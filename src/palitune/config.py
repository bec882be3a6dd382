"""The Hydra boundary: YAML and overrides come in, one typed dataclass goes out.

A choice is a type: `adapter=qlora` composes a node of type `Qlora`, so what a recipe receives can
be used as it is. No dotted Python path is ever read from a configuration.
"""

import functools
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    Glob,
    IntervalSweep,
    Override,
    OverrideType,
    Quote,
    QuotedString,
)
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from palitune.commands import bundled, options, places, settings
from palitune.mistakes import ConfigError, must_choose, must_give, no_key, not_among
from palitune.models.adapters import Full
from palitune.runs import (
    GROUPS,
    RUNS,
    Align,
    Check,
    Command,
    Compare,
    Evaluate,
    Export,
    Finetune,
    Inspect,
    Plan,
    Predict,
    Run,
)
from palitune.search import Choice, Domain, Interval
from palitune.training.published import Published

__all__ = [
    "Align",
    "Check",
    "Compare",
    "ConfigError",
    "Evaluate",
    "Export",
    "Finetune",
    "Inspect",
    "Plan",
    "Predict",
    "Run",
    "compose",
    "recipe",
    "to_yaml",
]

Config = TypeVar("Config", bound=Command)
Told = TypeVar("Told", bound=Command, contravariant=True)


def _published(name: str, *, _root_: DictConfig) -> Any:
    """Resolve `${published:NAME}`: see `palitune.training.published`."""
    tables = cast(Published, OmegaConf.to_object(_root_.published))
    model = {key: _root_.model[key] for key in ("size", "resolution") if key in _root_.model}
    return tables.setting(
        name,
        family=cast(Any, OmegaConf.get_type(_root_.model)).name,
        size=model.get("size"),
        resolution=model.get("resolution"),
        full=OmegaConf.get_type(_root_.adapter) is Full,
    )


OmegaConf.register_new_resolver("published", _published, replace=True)

EARLIER_RUN = "earlier_run"
"""The option of `experiment` that the configuration of an earlier run is composed as."""

# Schemas lie in a group of their own, so that no user meets them as options.
_STORE = ConfigStore.instance()
for _recipe_name, _schema in RUNS.items():
    _STORE.store(group="schema", name=_recipe_name, node=_schema)
for _group, _types in GROUPS.items():
    for _option, _type in _types.items():
        _STORE.store(group=f"schema/{_group}", name=_option, node=_type)

_CHOSEN = {t: (group, option) for group, types in GROUPS.items() for option, t in types.items()}


def compose(
    recipe_name: str,
    overrides: Sequence[str] = (),
    config_dir: str | None = None,
    run_folder: str | None = None,
) -> Command:
    """Compose `conf/<recipe_name>.yaml` with overrides such as `task=ocr` into a typed run.

    `config_dir` adds options of one's own; `run_folder` starts from the configuration of an
    earlier run. Raises ConfigError, one sentence that names the mistake and the way out.
    """
    try:
        parsed = [_parsed(override) for override in overrides]
        composed = _composed(recipe_name, parsed, config_dir, run_folder)
        unread = RUNS[recipe_name].unread
        if any(OmegaConf.missing_keys(composed[group] or {}) for group in unread):
            composed.update(dict.fromkeys(unread))
        if OmegaConf.is_missing(composed, "output_dir"):
            now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            composed.output_dir = f"outputs/{recipe_name}/{now}"
        return cast(Command, OmegaConf.to_object(composed))
    except ConfigError:
        raise
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as mistake:
        raise ConfigError(_sentence(mistake)) from mistake


def to_yaml(run: Command) -> str:
    """Write the configuration of a run; it composes again as an experiment.

    The folder of the run is a comment only, so that no second run goes there by accident.
    """
    values = OmegaConf.to_container(OmegaConf.structured(run), enum_to_str=True)
    assert isinstance(values, dict)
    del values["output_dir"]
    nested, replaced = [], []
    for path, group, option in _choices(run):
        if path == group:
            replaced.append({f"override /{group}": option})
        else:
            nested.append({f"/{group}@{path}": option})
    return (
        f"# @package _global_\n# A run of {_recipe_of(type(run))}, written to {run.output_dir}\n"
        + OmegaConf.to_yaml(OmegaConf.create({"defaults": [*nested, *replaced]}))
        + OmegaConf.to_yaml(OmegaConf.create(values))
    )


class Program(Protocol[Told]):
    """A recipe: called with a run it tells its story, called without it reads the command line."""

    def __call__(self, run: Told | None = None) -> None: ...


def recipe(schema: type[Config]) -> Callable[[Callable[[Config], None]], Program[Config]]:
    """Make a story about a run a program, too, configured by `conf/<schema>.yaml`.

    A schema of one's own inherits from one of Palitune's, and shares its YAML.
    """
    name = _recipe_of(schema)
    RUNS[name] = schema
    _STORE.store(group="schema", name=name, node=schema)

    def decorate(story: Callable[[Config], None]) -> Program[Config]:
        @functools.wraps(story)
        def program(run: Config | None = None) -> None:
            if run is not None:
                return story(run)
            from palitune.launching import launch

            file = sys.argv[0]
            sys.exit(launch(name, lambda: story, [file], f"python {file}", sys.argv[1:]))

        return program

    return decorate


def combinations(
    overrides: Sequence[str], config_dir: str | None = None
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the overrides of every job of a sweep, and those of them that are swept."""
    columns: list[list[str]] = []
    swept: list[int] = []
    for override in map(_parsed, overrides):
        if override.is_sweep_override():
            swept.append(len(columns))
            columns.append(list(_sweep(override, config_dir)))
        else:
            columns.append([str(override.input_line)])
    for job in itertools.product(*columns):
        yield list(job), [job[column] for column in swept]


def domains(
    overrides: Sequence[str], config_dir: str | None = None
) -> tuple[list[str], dict[str, Domain]]:
    """Return the overrides that give one value, and by key what the others choose from."""
    single: list[str] = []
    chosen_from: dict[str, Domain] = {}
    for override in map(_parsed, overrides):
        if override.is_sweep_override():
            chosen_from[str(override.get_key_element())] = _domain(override, config_dir)
        else:
            single.append(str(override.input_line))
    return single, chosen_from


def _domain(override: Override, config_dir: str | None) -> Domain:
    value = override.value()
    if not isinstance(value, IntervalSweep):
        values = (text.partition("=")[2] for text in _sweep(override, config_dir))
        return Choice(tuple(values))
    low, high = cast(float, value.start), cast(float, value.end)
    if not low < high:
        raise ConfigError(f"{override.input_line}: an interval goes from less to more")
    as_log = "log" in value.tags
    if as_log and low <= 0:
        raise ConfigError(f"{override.input_line}: a logarithmic interval must lie above 0")
    return Interval(low, high, log=as_log, whole=isinstance(low, int) and isinstance(high, int))


def _sweep(override: Override, config_dir: str | None) -> Iterator[str]:
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: an interval has no values to run; list them")
    value = override.value()
    if isinstance(value, Glob):
        values = value.filter(list(options(override.key_or_group, config_dir)))
    else:
        values = list(override.sweep_string_iterator())
    return (f"{override.get_key_element()}={value}" for value in values)


def with_words(recipe_name: str, arguments: Sequence[str]) -> list[str]:
    """Write bare words as the list that they belong to: `compare a b` as `runs=['a','b']`.

    A word has no `=` after a key, or is the name of something that exists.
    """
    into = RUNS[recipe_name].words
    if into is None:
        return list(arguments)
    words = [a for a in arguments if not re.match(r"[\w.@+~]+=", a) or Path(a).exists()]
    others = [argument for argument in arguments if argument not in words]
    return [*others, f"{into}=[{','.join(map(quoted, words))}]"] if words else others


def default_options(recipe_name: str) -> dict[str, str]:
    """Return the groups of a recipe with their defaults: `???` must be chosen, empty is none."""
    root = OmegaConf.to_container(OmegaConf.load(bundled("conf") / f"{recipe_name}.yaml"))
    chosen = (entry for entry in cast(Any, root)["defaults"] if isinstance(entry, dict))
    return {group: option or "" for entry in chosen for group, option in entry.items()}


def quoted(text: str) -> str:
    """Quote a text so that Hydra reads it as it stands."""
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def _recipe_of(schema: type[Command]) -> str:
    names = (base.__name__.lower() for base in schema.__mro__)
    return next(name for name in names if name in RUNS)


def _parsed(override: str) -> Override:
    """Parse key=value as Hydra does; a value outside its grammar, such as ~/boats, is a text."""
    parser = OverridesParser.create()
    try:
        return parser.parse_override(override)
    except HydraException:
        if plain := re.fullmatch(r"([\w.@/]+)=([^,{}\[\]'\"]+)", override):
            return parser.parse_override(f"{plain[1]}={quoted(plain[2])}")
    hint = "; put quotes around a text with commas, braces or brackets: 'key=\"a, b\"'"
    raise ConfigError(f"{override!r} is not key=value{hint if '=' in override else ''}")


def _composed(
    recipe_name: str,
    overrides: Sequence[Override],
    config_dir: str | None,
    run_folder: str | None,
) -> DictConfig:
    """Merge the files of all chosen options, then set the single values."""
    if recipe_name not in RUNS:
        raise ConfigError(not_among("recipe", recipe_name, RUNS))
    choices, values = _choices_and_values(recipe_name, overrides, config_dir)
    if run_folder is not None:
        choices = [*_earlier_run(recipe_name, run_folder, choices), *choices]
    if config_dir is not None:
        choices = [*choices, _search_path(config_dir)]
    with hydra.initialize_config_dir(str(bundled("conf")), version_base="1.3"):
        composed = hydra.compose(recipe_name, choices)
    OmegaConf.set_struct(composed, None)  # dataclasses stay closed, dictionaries take new keys
    trained = (Align, Evaluate, Predict, Export)
    if run_folder is not None and issubclass(RUNS[recipe_name], trained):
        _take_adapter(composed, Path(run_folder))
    for override in values:
        _set(composed, override)
    return composed


def _choices_and_values(
    recipe_name: str, overrides: Sequence[Override], config_dir: str | None
) -> tuple[list[str], list[Override]]:
    """Tell the overrides that choose an option from those that set a value, and check both."""
    schema, groups = RUNS[recipe_name], default_options(recipe_name)
    keys = sorted({*groups, *(field.name for field in fields(schema))})
    optional = {field.name for field in fields(schema) if field.default is None}
    choices, values = [], []
    for override in overrides:
        _check_form(override)
        key, value = override.key_or_group, override.value()
        if key.partition(".")[0] not in keys:
            raise ConfigError(no_key(key.partition(".")[0], keys))
        if key not in groups or isinstance(value, dict):
            values.append(override)
            continue
        names = list(options(key, config_dir))
        if value is None and key in GROUPS and key not in optional:
            raise ConfigError(must_choose(key, names))
        if value is not None and str(value) not in names:
            raise ConfigError(not_among(key, str(value), names))
        choices.append(str(override.input_line))
    return choices, values


def _check_form(override: Override) -> None:
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


def _search_path(config_dir: str) -> str:
    ours, own = places(config_dir)
    for file in own.rglob("*.yaml"):
        if (ours / file.relative_to(own)).exists():
            raise ConfigError(f"{file}: Palitune has an option of that name; rename the file")
    return f"hydra.searchpath=[{quoted(f'file://{own.absolute()}')}]"


def _earlier_run(recipe_name: str, folder: str, choices: Sequence[str]) -> list[str]:
    """Offer the configuration of an earlier run as an experiment, and choose it.

    What only other recipes can be told is left out.
    """
    if "experiment" not in default_options(recipe_name):
        raise ConfigError(f"{recipe_name} takes no --run: it has no options to start from")
    file = Path(folder) / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"--run {folder}: there is no {file}; name the folder of an earlier run")
    if clash := [text for text in choices if text.startswith("experiment=")]:
        raise ConfigError(f"--run brings its own configuration; leave out {clash[0]}")
    earlier = cast(DictConfig, OmegaConf.load(file))
    for name in _fields_of_recipes() - {field.name for field in fields(RUNS[recipe_name])}:
        earlier.pop(name, None)
    _STORE.store(group="experiment", name=EARLIER_RUN, node=earlier, package="_global_")
    return [f"experiment={EARLIER_RUN}"]


def _fields_of_recipes() -> set[str]:
    return {field.name for schema in RUNS.values() for field in fields(schema)}


def _take_adapter(composed: DictConfig, run_folder: Path) -> None:
    """Take the adapter that the earlier run trained, if it trained one."""
    if (run_folder / "adapter").is_dir():
        composed.adapter.path = str(run_folder / "adapter")


def _set(composed: DictConfig, override: Override) -> None:
    """Set one value; every step of its key must exist, except in a plain dictionary."""
    key, value = override.key_or_group, override.value()
    steps = key.split(".")
    node: Any = composed
    for depth, step in enumerate(steps, start=1):
        is_last = depth == len(steps)
        plain = is_last and OmegaConf.get_type(node) is dict
        if not plain and step not in list(node):
            raise ConfigError(no_key(".".join(steps[:depth]), list(node)))
        child = None if is_last else node[step]
        if child is None and not is_last:
            raise ConfigError(f"{override.input_line}: {must_choose(step, options(step))}")
        if not isinstance(child, DictConfig):
            break
        node = child
    try:
        OmegaConf.update(composed, key, value, merge=True)
    except OmegaConfBaseException as mistake:
        cause = "it cannot be null" if value is None else _first_line(mistake)
        raise ConfigError(f"{override.input_line}: {cause}") from mistake


def _choices(node: Any, path: str = "") -> Iterator[tuple[str, str, str | None]]:
    """Yield (path, group, option) of every part of a run that was chosen out of a group."""
    for name, child in (node if isinstance(node, dict) else vars(node)).items():
        here = f"{path}.{name}" if path else name
        if type(child) in _CHOSEN:
            yield here, *_CHOSEN[type(child)]
        elif child is None and here in GROUPS:
            yield here, here, None
        if isinstance(child, dict) or is_dataclass(child):
            yield from _choices(child, here)


def _sentence(mistake: Exception) -> str:
    """Say in one sentence what Hydra or OmegaConf found wrong, and where."""
    if isinstance(mistake, MarkedYAMLError) and mistake.problem_mark:
        mark = mistake.problem_mark
        return f"{mark.name}:{mark.line + 1}: this is not YAML: {mistake.problem}"
    if group := re.match(r"You must specify '([^']+)'", str(mistake)):
        return must_choose(group[1], options(group[1]))
    file = re.match(r"In '([^']+)'", str(mistake))
    where = f"{file[1]}.yaml: " if file and file[1] not in RUNS else ""
    if isinstance(mistake, MissingConfigException) and mistake.missing_cfg_file:
        folder, _, name = mistake.missing_cfg_file.rpartition("/")
        return where + not_among(folder or "file", name, mistake.options or [])
    if isinstance(mistake, HydraException) and isinstance(
        mistake.__context__, OmegaConfBaseException
    ):
        mistake = mistake.__context__
    key, parent = str(getattr(mistake, "full_key", None) or ""), getattr(mistake, "parent_node", {})
    if isinstance(mistake, ConfigKeyError):
        return where + no_key(key, (name for name in parent if name != "hydra"))
    if isinstance(mistake, MissingMandatoryValue):
        schema = cast(type, OmegaConf.get_type(parent))
        texts = {setting.name: setting.text for setting in settings(schema)}
        return where + must_give(key, texts.get(key.rpartition(".")[2], ""))
    return where + (f"{key}: " if key else "") + _first_line(mistake)


def _first_line(mistake: Exception) -> str:
    lines = [line.strip() for line in str(mistake).splitlines()]
    return next((line for line in lines if line), type(mistake).__name__)
