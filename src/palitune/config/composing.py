"""A recipe's YAML, the files of all chosen options and single values, merged into one run."""

import logging
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import cast

import hydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from palitune import processes
from palitune.commands import bundled, options, places
from palitune.config.experiments import Choosing
from palitune.config.overrides import check_single, parsed, quoted
from palitune.config.schemas import default_options, offer_schemas
from palitune.config.sentences import MISTAKES, sentence
from palitune.config.values import set_value
from palitune.mistakes import ConfigError, must_choose, no_key, not_among
from palitune.runs import GROUPS, RUNS, Align, Command, Evaluate, Export, Predict

_log = logging.getLogger(__name__)


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
        told = [parsed(override) for override in overrides]
        composed = _composed(recipe_name, told, config_dir, run_folder)
        unread = RUNS[recipe_name].unread
        if any(OmegaConf.missing_keys(composed[group] or {}) for group in unread):
            composed.update(dict.fromkeys(unread))
        if OmegaConf.is_missing(composed, "output_dir"):
            now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            composed.output_dir = f"outputs/{recipe_name}/{now}"
        return cast(Command, OmegaConf.to_object(composed))
    except ConfigError:
        raise
    except MISTAKES as mistake:
        raise ConfigError(sentence(mistake)) from mistake


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
    told = _written(recipe_name, choices, config_dir, run_folder)
    if config_dir is not None:
        told.append(_search_path(config_dir))
    offer_schemas(recipe_name)
    with hydra.initialize_config_dir(str(bundled("conf")), version_base="1.3"):
        composed = hydra.compose(recipe_name, told)
    OmegaConf.set_struct(composed, None)  # dataclasses stay closed, dictionaries take new keys
    trained = issubclass(RUNS[recipe_name], Align | Evaluate | Predict | Export)
    several = any(value.key_or_group == "adapters" for value in values)
    if run_folder is not None and trained and not several:
        _take_adapter(composed, Path(run_folder))
    for override in values:
        set_value(composed, override)
    return composed


def _choices_and_values(
    recipe_name: str, overrides: Sequence[Override], config_dir: str | None
) -> tuple[list[Override], list[Override]]:
    """Tell the overrides that choose an option from those that set a value, and check both."""
    schema, groups = RUNS[recipe_name], default_options(recipe_name)
    keys = sorted({*groups, *(field.name for field in fields(schema))})
    optional = {field.name for field in fields(schema) if field.default is None}
    choices, values = [], []
    for override in overrides:
        check_single(override)
        key, value = override.key_or_group, override.value()
        if key.partition(".")[0] not in keys:
            raise ConfigError(no_key(key.partition(".")[0], keys))
        if key not in groups or isinstance(value, dict):
            values.append(override)
            continue
        names = list(options(key, config_dir))
        if value is None and key in GROUPS and (override.package or key not in optional):
            raise ConfigError(must_choose(key, names))
        if value is not None and str(value) not in names:
            raise ConfigError(not_among(key, str(value), names))
        choices.append(override)
    return choices, values


def _written(
    recipe_name: str, choices: Sequence[Override], config_dir: str | None, run_folder: str | None
) -> list[str]:
    """Write choices as Hydra reads them, with what they leave of an experiment or earlier run."""
    groups = default_options(recipe_name)
    choosing = Choosing(
        told={
            str(choice.package or choice.key_or_group): _group_and_option(choice)
            for choice in choices
            if choice.key_or_group in GROUPS
        },
        otherwise={group: (group, option) for group, option in groups.items()},
        config_dir=config_dir,
    )
    if run_folder is None:
        written = [_choice(choice, choosing) for choice in choices]
        _say_left_out(choosing, "the experiment")
        return written
    if "experiment" not in groups:
        raise ConfigError(f"{recipe_name} takes no --run: it has no options to start from")
    if clash := [choice.input_line for choice in choices if choice.key_or_group == "experiment"]:
        raise ConfigError(f"--run brings its own configuration; leave out {clash[0]}")
    earlier = choosing.earlier_run(recipe_name, run_folder)
    _say_left_out(choosing, "the earlier run")
    return [f"experiment={earlier}", *(_choice(choice, choosing) for choice in choices)]


def _say_left_out(choosing: Choosing, who: str) -> None:
    for said in dict.fromkeys(choosing.left_out if processes.is_first() else ()):
        _log.warning("%s: what %s says of it is left out", said, who)


def _group_and_option(choice: Override) -> tuple[str, str | None]:
    option = choice.value()
    return choice.key_or_group, None if option is None else str(option)


def _choice(choice: Override, choosing: Choosing) -> str:
    group, option = _group_and_option(choice)
    if option is None:
        return f"~{choice.get_key_element()}"
    if group == "experiment":
        return f"experiment={quoted(choosing.experiment(option))}"
    return str(choice.input_line)


def _search_path(config_dir: str) -> str:
    ours, own = places(config_dir)
    for file in own.rglob("*.yaml"):
        if (ours / file.relative_to(own)).exists():
            raise ConfigError(f"{file}: Palitune has an option of that name; rename the file")
    return f"hydra.searchpath=[{quoted(f'file://{own.absolute()}')}]"


def _take_adapter(composed: DictConfig, run_folder: Path) -> None:
    """Take the adapter that the earlier run trained, if it trained one."""
    if (run_folder / "adapter").is_dir():
        composed.adapter.path = str(run_folder / "adapter")
