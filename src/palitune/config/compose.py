"""Composition of a run: the recipe's YAML, the files of all chosen options, and single values."""

import logging
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TypeVar, cast

import hydra
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from palitune.config.aliases import expand_model_id, suggest_key
from palitune.config.catalog import config_dirs, options, resolve_option
from palitune.config.config_store import (
    NESTED_GROUPS,
    default_options,
    load_stored_config,
    register_schemas,
)
from palitune.config.environment import environment_keys
from palitune.config.error_messages import COMPOSE_ERRORS, format_config_error
from palitune.config.experiment_overrides import ExperimentMerge
from palitune.config.overrides import check_single_value, parse_override, quote_value, set_value
from palitune.config.recipes import (
    GROUPS,
    Align,
    Evaluate,
    Export,
    Inspect,
    Predict,
    RecipeConfig,
    Serve,
)
from palitune.config.text_settings import quote_text
from palitune.config.trained_adapter import (
    RUN_FILE,
    check_trained_fields,
    drop_group,
    load_adapter_settings,
    option_of,
)
from palitune.data.sources.mixture import Mixture
from palitune.distributed import collectives
from palitune.errors import ConfigError, missing_choice, unknown_key
from palitune.paths import resource_dir

_logger = logging.getLogger(__name__)

ConfigT = TypeVar("ConfigT", bound=RecipeConfig)


def compose(
    schema: type[ConfigT],
    overrides: Sequence[str] = (),
    config_dir: str | None = None,
    run_folder: str | None = None,
) -> ConfigT:
    """Compose `conf/<schema.name>.yaml` with overrides into a typed run.

    Args:
        schema: Configuration dataclass of the recipe, e.g. `Finetune`.
        overrides: Options and values of the command line, e.g. `task=ocr` or `seed=3`.
        config_dir: Folder with the user's own options.
        run_folder: Folder of an earlier run, whose configuration is used instead of an experiment.

    Raises:
        ConfigError: The configuration is invalid.
    """
    try:
        expanded = expand_model_id([quote_text(override, schema) for override in overrides])
        parsed = [parse_override(override) for override in expanded]
        node = _compose_node(schema, parsed, config_dir, run_folder)
        if any(OmegaConf.missing_keys(node[group] or {}) for group in schema.optional_groups):
            node.update(dict.fromkeys(schema.optional_groups))
        has_default_folder = OmegaConf.is_missing(node, "output_dir")
        if has_default_folder:
            now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
            node.output_dir = f"outputs/{schema.name}/{now}"
        from_environment = environment_keys(node)
        run = cast(ConfigT, OmegaConf.to_object(node))
        check_trained_fields(run)
        run.environment_keys = from_environment
        run.has_default_folder = has_default_folder
        if isinstance(run, Inspect):
            run.earlier_run = run_folder or ""
        return run
    except ConfigError:
        raise
    except COMPOSE_ERRORS as error:
        raise ConfigError(format_config_error(error)) from error
    except OSError as error:  # e.g. an option whose name is too long for a file
        raise ConfigError(
            f"the configuration cannot be read: {error.strerror} ({error.filename}). Correct the "
            "names of its options."
        ) from error


def _compose_node(
    schema: type[RecipeConfig],
    overrides: Sequence[Override],
    config_dir: str | None,
    run_folder: str | None,
) -> DictConfig:
    """Merge the files of all chosen options, then set the single values."""
    choices, values = _split_overrides(schema, overrides, config_dir)
    trained = _adapter_settings(schema, choices, values, run_folder)
    hydra_overrides = _hydra_overrides(schema, choices, config_dir, run_folder, trained)
    if config_dir is not None:
        hydra_overrides.append(_search_path(config_dir))
    register_schemas(schema)
    with hydra.initialize_config_dir(str(resource_dir("conf")), version_base="1.3"):
        node = hydra.compose(schema.name, hydra_overrides)
    OmegaConf.set_struct(node, None)  # dataclasses reject new keys, dictionaries accept them
    uses_adapter = issubclass(schema, Align | Evaluate | Predict | Serve | Export)
    sets_adapters = any(value.key_or_group == "adapters" for value in values)
    if run_folder is not None and uses_adapter and not sets_adapters:
        adapter = Path(run_folder) / "adapter"
        if adapter.is_dir():
            node.adapter.path = str(adapter)
    for override in values:
        set_value(node, override)
    return node


def _split_overrides(
    schema: type[RecipeConfig], overrides: Sequence[Override], config_dir: str | None
) -> tuple[list[Override], list[Override]]:
    """Check the overrides; return those that choose an option and those that set a value."""
    groups = default_options(schema)
    keys = sorted({*groups, *(field.name for field in fields(schema))})
    optional = {field.name for field in fields(schema) if field.default is None}
    choices, values = [], []
    for override in overrides:
        check_single_value(override)
        key, value = override.key_or_group, override.value()
        if key.partition(".")[0] not in keys:
            first = key.partition(".")[0]
            raise ConfigError(unknown_key(first, keys, suggest_key(key)))
        if key not in groups or isinstance(value, dict):
            values.append(override)
            continue
        if value is None and key in GROUPS and (override.package or key not in optional):
            raise ConfigError(missing_choice(key, options(key, config_dir)))
        if value is not None:
            resolve_option(key, str(value), config_dir)
        choices.append(override)
    return choices, values


def _hydra_overrides(
    schema: type[RecipeConfig],
    choices: Sequence[Override],
    config_dir: str | None,
    run_folder: str | None,
    trained: DictConfig | None,
) -> list[str]:
    """Return the choices as Hydra's overrides, with a filtered experiment or earlier run.

    `trained`: settings of the adapter that the run loads.
    """
    groups = default_options(schema)
    merge = ExperimentMerge(
        cli_choices={
            str(choice.package or choice.key_or_group): (choice.key_or_group, _option(choice))
            for choice in choices
            if choice.key_or_group in GROUPS
        },
        default_choices={group: (group, option) for group, option in groups.items()},
        config_dir=config_dir,
    )
    if run_folder is None and trained is not None:
        settings = merge.filter_settings(schema, trained)
        return [f"experiment={settings}", *(_format_choice(choice, merge) for choice in choices)]
    if run_folder is None:
        hydra_overrides = [_format_choice(choice, merge) for choice in choices]
        _warn_dropped(merge, "the experiment")
        return hydra_overrides
    if "experiment" not in groups:
        raise ConfigError(f"{schema.name} does not support --run: it has no options")
    if experiment := next((c.input_line for c in choices if c.key_or_group == "experiment"), None):
        raise ConfigError(f"--run and {experiment} cannot be combined; remove {experiment}")
    if trained is None:
        earlier_run = merge.filter_earlier_run(schema, run_folder)
    else:
        earlier_run = merge.filter_settings(schema, trained)
    _warn_dropped(merge, "the earlier run")
    return [f"experiment={earlier_run}", *(_format_choice(choice, merge) for choice in choices)]


def _adapter_settings(
    schema: type[RecipeConfig],
    choices: Sequence[Override],
    values: Sequence[Override],
    run_folder: str | None,
) -> DictConfig | None:
    """Return the settings that a run takes from the adapter it loads; None if there are none.

    With an earlier run these are all its settings, with `adapter.path` task and model.
    """
    if not issubclass(schema, Evaluate | Predict | Serve | Export):
        return None
    if run_folder is not None:
        file = Path(run_folder) / "adapter" / RUN_FILE
        return load_stored_config(file) if file.is_file() else None
    path = next((v.value() for v in values if v.key_or_group == "adapter.path"), None)
    chosen = {choice.key_or_group: _option(choice) for choice in choices}
    if path is None or "experiment" in chosen:
        return None
    settings = load_adapter_settings(str(path))
    if settings is not None:
        for group in ("task", "model"):
            if chosen.get(group, option := option_of(settings, group)) != option:
                drop_group(settings, group)
        if chosen.get("data") == Mixture.name:
            drop_group(settings, "task")
        if "data" in chosen or "task" in chosen or not issubclass(schema, Predict):
            drop_group(settings, "data")
    return settings


def _warn_dropped(merge: ExperimentMerge, source: str) -> None:
    for text in dict.fromkeys(merge.dropped_settings if collectives.is_main_process() else ()):
        _logger.warning("%s; their values in %s are ignored", text, source)


def _option(choice: Override) -> str | None:
    return None if choice.value() is None else str(choice.value())


def _format_choice(choice: Override, merge: ExperimentMerge) -> str:
    """Return a choice with the full name of its option and the key of a nested group."""
    group, option = choice.key_or_group, _option(choice)
    key = str(choice.get_key_element())
    if group in NESTED_GROUPS and not choice.package:
        key = f"{group}@{NESTED_GROUPS[group]}"
    if option is None:
        return f"~{key}"
    option = resolve_option(group, option, merge.config_dir)
    if group == "experiment":
        option = merge.filter_experiment(option)
    return f"{key}={quote_value(option)}"


def _search_path(config_dir: str) -> str:
    bundled, user_dir = config_dirs(config_dir)
    for file in user_dir.rglob("*.yaml"):
        if (bundled / file.relative_to(user_dir)).exists():
            raise ConfigError(f"{file}: Palitune already has an option of this name; rename it")
    return f"hydra.searchpath=[{quote_value(f'file://{user_dir.absolute()}')}]"
