"""Schemas registered with Hydra, default options, and the resolver `${reference_hparams:}`."""

import re
import reprlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, ListConfig, OmegaConf

from palitune.codec.parsing import check_yaml
from palitune.config.recipes import GROUPS, RecipeConfig
from palitune.errors import ConfigError
from palitune.models.adapters.config import Full
from palitune.paths import resource_dir
from palitune.training.reference_hparams import ReferenceHparams

_OWN_INTERPOLATION = re.compile(r"\$\{reference_hparams:\w+\}")

_CONFIG_STORE = ConfigStore.instance()

NESTED_GROUPS = {"search_space": "search.space"}
"""Groups whose options are part of another option, by the key that they are composed at."""


def register_schemas(schema: type[RecipeConfig]) -> None:
    """Register the schemas of a recipe and of all options with Hydra.

    They are in a group of their own, `schema`, so that they do not appear among the options.
    """
    _register_options()
    _CONFIG_STORE.store(group="schema", name=schema.name, node=schema)


@cache
def _register_options() -> None:
    for group, types in GROUPS.items():
        for option, schema in types.items():
            _CONFIG_STORE.store(group=f"schema/{group}", name=option, node=schema)


def register_experiment(experiment: str, node: DictConfig) -> None:
    """Register a composed node as an option of `experiment`."""
    group, _, name = f"experiment/{experiment}".rpartition("/")
    _CONFIG_STORE.store(group=group, name=name, node=node, package="_global_")


def load_yaml(file: Path) -> DictConfig:
    """Load a YAML file; anything but a mapping is an empty node."""
    loaded = OmegaConf.load(file)
    return loaded if isinstance(loaded, DictConfig) else OmegaConf.create()


def load_stored_config(file: Path) -> DictConfig:
    """Load the configuration of a run folder, which another person may have written.

    Its values may be computed only by `${reference_hparams:NAME}`. Other interpolations read
    environment variables or other files, and the new run would write them into its own folder.

    Raises:
        ConfigError: The file is not a configuration of a run.
    """
    try:
        text = file.read_text(encoding="utf-8")
        scalars = check_yaml(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} is not the configuration of a run: {error}.") from error
    for scalar in scalars:
        if "${" in _OWN_INTERPOLATION.sub("", scalar):
            raise ConfigError(
                f"{file}: the value {reprlib.repr(scalar)} is not allowed in the configuration of "
                "a run, which may only use ${reference_hparams:NAME}. Write the value itself."
            )
    return load_yaml(file)


def defaults_list(node: DictConfig) -> list[Any]:
    """Return the defaults list of a configuration file: file names, or {group: option}."""
    entries = node.get("defaults")
    return (
        cast(list[Any], OmegaConf.to_container(entries)) if isinstance(entries, ListConfig) else []
    )


def default_options(schema: type[RecipeConfig]) -> dict[str, str]:
    """Return the groups of a recipe with their default options; `???` is required, "" is none."""
    choices = dict(_default_choices(schema.name))
    if "search" in choices:
        choices |= _default_choices("search/optuna")
    return choices


@cache
def _default_choices(file: str) -> Mapping[str, str]:
    """Return the choices in the defaults list of a file, and of the shared file that it names."""
    choices: dict[str, str] = {}
    for entry in defaults_list(load_yaml(resource_dir("conf") / f"{file}.yaml")):
        if isinstance(entry, dict):
            choices |= {key.strip("/").partition("@")[0]: name or "" for key, name in entry.items()}
        elif entry == "_defaults":
            choices |= _default_choices(entry)
    return choices


def _resolve_reference_hparam(name: str, *, _root_: DictConfig) -> Any:
    """Resolve `${reference_hparams:NAME}`: see `palitune.training.reference_hparams`."""
    tables = cast(ReferenceHparams, OmegaConf.to_object(_root_.reference_hparams))
    model = {key: _root_.model[key] for key in ("size", "resolution") if key in _root_.model}
    return tables.lookup(
        name,
        family=cast(Any, OmegaConf.get_type(_root_.model)).name,
        size=model.get("size"),
        resolution=model.get("resolution"),
        full=OmegaConf.get_type(_root_.adapter) is Full,
    )


OmegaConf.register_new_resolver("reference_hparams", _resolve_reference_hparam, replace=True)
