"""YAML of a run's configuration, which composes to the same run again."""

from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from omegaconf import OmegaConf

from palitune.config.config_store import NESTED_GROUPS
from palitune.config.recipes import GROUPS, RecipeConfig

MASK = "???"
"""OmegaConf's mark of a value that must be set."""
_OPTION_OF_TYPE = {
    t: (group, option) for group, types in GROUPS.items() for option, t in types.items()
}


def to_yaml(run: RecipeConfig) -> str:
    """Return the configuration of a run as an experiment file.

    `output_dir` is only a comment, and `overwrite` is left out, so that a second run does not
    overwrite the first. A value from an environment variable, which may be a password, is written
    as `???`: it has to be set again.
    """
    values = OmegaConf.to_container(OmegaConf.structured(run), enum_to_str=True)
    assert isinstance(values, dict)
    del values["output_dir"], values["overwrite"]
    for path in run.environment_keys:
        _mask(values, path)
    additions, overrides = [], []
    for key, group, option in _group_choices(run):
        if key == group:
            overrides.append({f"override /{group}": option})
        else:
            additions.append({f"/{group}@{key}": option})
    # The values hold the whole of a nested group.
    overrides += [
        {f"override /{group}@{key}": None}
        for group, key in NESTED_GROUPS.items()
        if OmegaConf.select(OmegaConf.create(values), key) is not None
    ]
    output_dir = MASK if ("output_dir",) in run.environment_keys else run.output_dir
    return (
        f"# @package _global_\n# A run of {run.name}, written to {output_dir}\n"
        + OmegaConf.to_yaml(OmegaConf.create({"defaults": [*additions, *overrides]}))
        + OmegaConf.to_yaml(OmegaConf.create(values))
    )


def _mask(values: dict[Any, Any], path: tuple[str, ...]) -> None:
    """Replace the value at a path, which may lie in a group that the run does not have."""
    *parents, last = path
    for name in parents:
        values = values.get(name) or {}
    if last in values:
        values[last] = MASK


def _group_choices(node: Any, parent_key: str = "") -> Iterator[tuple[str, str, str | None]]:
    """Yield (key, group, option) of all parts of a run that are options of a group."""
    for name, child in (node if isinstance(node, dict) else vars(node)).items():
        key = f"{parent_key}.{name}" if parent_key else name
        if type(child) in _OPTION_OF_TYPE:
            yield key, *_OPTION_OF_TYPE[type(child)]
        elif child is None and key in GROUPS:
            yield key, key, None
        if isinstance(child, dict) or is_dataclass(child):
            yield from _group_choices(child, key)
