"""The schemas of recipes and options, where Hydra finds them, and what their YAML may refer to."""

from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from palitune.commands import bundled
from palitune.models.adapters import Full
from palitune.runs import GROUPS, RUNS, Command
from palitune.training.published import Published

# Schemas lie in a group of their own, so that no user meets them as options.
_STORE = ConfigStore.instance()
for _group, _types in GROUPS.items():
    for _option, _type in _types.items():
        _STORE.store(group=f"schema/{_group}", name=_option, node=_type)


def register(recipe_name: str, schema: type[Command]) -> None:
    """Make a schema that of a recipe."""
    RUNS[recipe_name] = schema
    _STORE.store(group="schema", name=recipe_name, node=schema)


for _recipe_name, _schema in RUNS.items():
    register(_recipe_name, _schema)


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
