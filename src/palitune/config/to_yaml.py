"""The configuration of a run as YAML, which composes to the same run again."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from omegaconf import OmegaConf

from palitune.config.config_store import get_recipe_name
from palitune.config.recipes import GROUPS, RecipeConfig

_OPTION_OF_TYPE = {
    t: (group, option) for group, types in GROUPS.items() for option, t in types.items()
}


def to_yaml(run: RecipeConfig) -> str:
    """Write the configuration of a run; it composes again as an experiment.

    The folder of the run is a comment only, so that no second run goes there by accident.
    """
    values = OmegaConf.to_container(OmegaConf.structured(run), enum_to_str=True)
    assert isinstance(values, dict)
    del values["output_dir"]
    nested, replaced = [], []
    for path, group, option in _group_choices(run):
        if path == group:
            replaced.append({f"override /{group}": option})
        else:
            nested.append({f"/{group}@{path}": option})
    return (
        f"# @package _global_\n# A run of {get_recipe_name(type(run))}, written to {run.output_dir}\n"
        + OmegaConf.to_yaml(OmegaConf.create({"defaults": [*nested, *replaced]}))
        + OmegaConf.to_yaml(OmegaConf.create(values))
    )


def _group_choices(node: Any, path: str = "") -> Iterator[tuple[str, str, str | None]]:
    """Yield (path, group, option) of every part of a run that was chosen out of a group."""
    for name, child in (node if isinstance(node, dict) else vars(node)).items():
        here = f"{path}.{name}" if path else name
        if type(child) in _OPTION_OF_TYPE:
            yield here, *_OPTION_OF_TYPE[type(child)]
        elif child is None and here in GROUPS:
            yield here, here, None
        if isinstance(child, dict) or is_dataclass(child):
            yield from _group_choices(child, here)
