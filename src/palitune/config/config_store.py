"""The schemas of recipes and options, where Hydra finds them, and what their YAML may refer to."""

from functools import cache
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from palitune.config.recipes import GROUPS, RECIPE_CONFIGS, RecipeConfig
from palitune.models.adapters.config import Full
from palitune.paths import resource_dir
from palitune.training.reference_hparams import ReferenceHparams

_CONFIG_STORE = ConfigStore.instance()


def register_schemas(recipe_name: str) -> None:
    """Put the schemas that a recipe is composed of where Hydra finds them.

    They lie in a group of their own, so that no user meets them as options.
    """
    _register_options()
    _CONFIG_STORE.store(group="schema", name=recipe_name, node=RECIPE_CONFIGS[recipe_name])


@cache
def _register_options() -> None:
    for group, types in GROUPS.items():
        for option, schema in types.items():
            _CONFIG_STORE.store(group=f"schema/{group}", name=option, node=schema)


def get_recipe_name(schema: type[RecipeConfig]) -> str:
    """Return the recipe whose schema this is, or inherits from."""
    names = (base.__name__.lower() for base in schema.__mro__)
    return next(name for name in names if name in RECIPE_CONFIGS)


def register_experiment(experiment: str, node: DictConfig) -> None:
    """Make something composed an option of `experiment`."""
    group, _, name = f"experiment/{experiment}".rpartition("/")
    _CONFIG_STORE.store(group=group, name=name, node=node, package="_global_")


def default_options(recipe_name: str) -> dict[str, str]:
    """Return the groups of a recipe with their defaults: `???` must be chosen, empty is none."""
    root = OmegaConf.to_container(OmegaConf.load(resource_dir("conf") / f"{recipe_name}.yaml"))
    chosen = (entry for entry in cast(Any, root)["defaults"] if isinstance(entry, dict))
    return {group: option or "" for entry in chosen for group, option in entry.items()}


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
