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

from palitune.cli.help import config_dirs, options
from palitune.config.config_store import default_options, register_schemas
from palitune.config.error_messages import COMPOSE_ERRORS, format_config_error
from palitune.config.experiment_overrides import ExperimentMerge
from palitune.config.overrides import check_single_value, parse_override, quote_value
from palitune.config.recipes import (
    GROUPS,
    RECIPE_CONFIGS,
    Align,
    Evaluate,
    Export,
    Predict,
    RecipeConfig,
)
from palitune.config.values import set_value
from palitune.distributed import collectives
from palitune.errors import ConfigError, missing_choice, unknown_choice, unknown_key
from palitune.paths import resource_dir

_logger = logging.getLogger(__name__)


def compose(
    recipe_name: str,
    overrides: Sequence[str] = (),
    config_dir: str | None = None,
    run_folder: str | None = None,
) -> RecipeConfig:
    """Compose `conf/<recipe_name>.yaml` with overrides such as `task=ocr` into a typed run.

    `config_dir` adds options of one's own; `run_folder` starts from the configuration of an
    earlier run. Raises ConfigError, one sentence that names the mistake and the way out.
    """
    try:
        told = [parse_override(override) for override in overrides]
        composed = _compose_node(recipe_name, told, config_dir, run_folder)
        unread = RECIPE_CONFIGS[recipe_name].optional_groups
        if any(OmegaConf.missing_keys(composed[group] or {}) for group in unread):
            composed.update(dict.fromkeys(unread))
        if OmegaConf.is_missing(composed, "output_dir"):
            now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            composed.output_dir = f"outputs/{recipe_name}/{now}"
        return cast(RecipeConfig, OmegaConf.to_object(composed))
    except ConfigError:
        raise
    except COMPOSE_ERRORS as mistake:
        raise ConfigError(format_config_error(mistake)) from mistake


def _compose_node(
    recipe_name: str,
    overrides: Sequence[Override],
    config_dir: str | None,
    run_folder: str | None,
) -> DictConfig:
    """Merge the files of all chosen options, then set the single values."""
    if recipe_name not in RECIPE_CONFIGS:
        raise ConfigError(unknown_choice("recipe", recipe_name, RECIPE_CONFIGS))
    choices, values = _split_overrides(recipe_name, overrides, config_dir)
    told = _hydra_overrides(recipe_name, choices, config_dir, run_folder)
    if config_dir is not None:
        told.append(_search_path(config_dir))
    register_schemas(recipe_name)
    with hydra.initialize_config_dir(str(resource_dir("conf")), version_base="1.3"):
        composed = hydra.compose(recipe_name, told)
    OmegaConf.set_struct(composed, None)  # dataclasses stay closed, dictionaries take new keys
    trained = issubclass(RECIPE_CONFIGS[recipe_name], Align | Evaluate | Predict | Export)
    several = any(value.key_or_group == "adapters" for value in values)
    if run_folder is not None and trained and not several:
        _use_run_adapter(composed, Path(run_folder))
    for override in values:
        set_value(composed, override)
    return composed


def _split_overrides(
    recipe_name: str, overrides: Sequence[Override], config_dir: str | None
) -> tuple[list[Override], list[Override]]:
    """Tell the overrides that choose an option from those that set a value, and check both."""
    schema, groups = RECIPE_CONFIGS[recipe_name], default_options(recipe_name)
    keys = sorted({*groups, *(field.name for field in fields(schema))})
    optional = {field.name for field in fields(schema) if field.default is None}
    choices, values = [], []
    for override in overrides:
        check_single_value(override)
        key, value = override.key_or_group, override.value()
        if key.partition(".")[0] not in keys:
            raise ConfigError(unknown_key(key.partition(".")[0], keys))
        if key not in groups or isinstance(value, dict):
            values.append(override)
            continue
        names = list(options(key, config_dir))
        if value is None and key in GROUPS and (override.package or key not in optional):
            raise ConfigError(missing_choice(key, names))
        if value is not None and str(value) not in names:
            raise ConfigError(unknown_choice(key, str(value), names))
        choices.append(override)
    return choices, values


def _hydra_overrides(
    recipe_name: str, choices: Sequence[Override], config_dir: str | None, run_folder: str | None
) -> list[str]:
    """Write choices as Hydra reads them, with what they leave of an experiment or earlier run."""
    groups = default_options(recipe_name)
    choosing = ExperimentMerge(
        cli_choices={
            str(choice.package or choice.key_or_group): _group_and_option(choice)
            for choice in choices
            if choice.key_or_group in GROUPS
        },
        default_choices={group: (group, option) for group, option in groups.items()},
        config_dir=config_dir,
    )
    if run_folder is None:
        written = [_format_choice(choice, choosing) for choice in choices]
        _warn_dropped(choosing, "the experiment")
        return written
    if "experiment" not in groups:
        raise ConfigError(f"{recipe_name} takes no --run: it has no options to start from")
    if clash := [choice.input_line for choice in choices if choice.key_or_group == "experiment"]:
        raise ConfigError(f"--run brings its own configuration; leave out {clash[0]}")
    earlier = choosing.filter_earlier_run(recipe_name, run_folder)
    _warn_dropped(choosing, "the earlier run")
    return [f"experiment={earlier}", *(_format_choice(choice, choosing) for choice in choices)]


def _warn_dropped(merge: ExperimentMerge, source: str) -> None:
    for said in dict.fromkeys(merge.dropped_settings if collectives.is_main_process() else ()):
        _logger.warning("%s: what %s says of it is left out", said, source)


def _group_and_option(choice: Override) -> tuple[str, str | None]:
    option = choice.value()
    return choice.key_or_group, None if option is None else str(option)


def _format_choice(choice: Override, merge: ExperimentMerge) -> str:
    group, option = _group_and_option(choice)
    if option is None:
        return f"~{choice.get_key_element()}"
    if group == "experiment":
        return f"experiment={quote_value(merge.filter_experiment(option))}"
    return str(choice.input_line)


def _search_path(config_dir: str) -> str:
    ours, own = config_dirs(config_dir)
    for file in own.rglob("*.yaml"):
        if (ours / file.relative_to(own)).exists():
            raise ConfigError(f"{file}: Palitune has an option of that name; rename the file")
    return f"hydra.searchpath=[{quote_value(f'file://{own.absolute()}')}]"


def _use_run_adapter(composed: DictConfig, run_folder: Path) -> None:
    """Take the adapter that the earlier run trained, if it trained one."""
    if (run_folder / "adapter").is_dir():
        composed.adapter.path = str(run_folder / "adapter")
