"""The schemas of recipes and options, where Hydra finds them, and what their YAML may refer to."""

from functools import cache
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from palitune.commands import bundled
from palitune.models.adapters import Full
from palitune.runs import GROUPS, RUNS, Command
from palitune.training.published import Published

_STORE = ConfigStore.instance()


def offer_schemas(recipe_name: str) -> None:
    """Put the schemas that a recipe is composed of where Hydra finds them.

    They lie in a group of their own, so that no user meets them as options.
    """
    _offer_options()
    _STORE.store(group="schema", name=recipe_name, node=RUNS[recipe_name])


@cache
def _offer_options() -> None:
    for group, types in GROUPS.items():
        for option, schema in types.items():
            _STORE.store(group=f"schema/{group}", name=option, node=schema)


def recipe_of(schema: type[Command]) -> str:
    """Return the recipe whose schema this is, or inherits from."""
    names = (base.__name__.lower() for base in schema.__mro__)
    return next(name for name in names if name in RUNS)


def offer(experiment: str, node: DictConfig) -> None:
    """Make something composed an option of `experiment`."""
    group, _, name = f"experiment/{experiment}".rpartition("/")
    _STORE.store(group=group, name=name, node=node, package="_global_")


def default_options(recipe_name: str) -> dict[str, str]:
    """Return the groups of a recipe with their defaults: `???` must be chosen, empty is none."""
    root = OmegaConf.to_container(OmegaConf.load(bundled("conf") / f"{recipe_name}.yaml"))
    chosen = (entry for entry in cast(Any, root)["defaults"] if isinstance(entry, dict))
    return {group: option or "" for entry in chosen for group, option in entry.items()}


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
