"""Settings from environment variables, `${oc.env:NAME}`, whose values are never written to files.

They may be passwords, and a run folder is shared: its `config.yaml` is also in the report and at
the trackers.
"""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.resolvers import oc

KeyPath = tuple[str, ...]

_names_read: list[str] = []
"""Environment variables that were read since the list was last cleared."""


def environment_keys(node: DictConfig) -> frozenset[KeyPath]:
    """Return the paths of all settings whose value depends on an environment variable.

    The items of a list count as the list.
    """
    return frozenset(_find_keys(node, ()))


def _find_keys(node: DictConfig | ListConfig, path: KeyPath) -> Iterator[KeyPath]:
    is_list = isinstance(node, ListConfig)
    for key in range(len(node)) if is_list else list(node):
        child_path = path if is_list else (*path, str(key))
        if OmegaConf.is_interpolation(node, key):
            _names_read.clear()
            node[key]
            if _names_read:
                yield child_path
        elif not OmegaConf.is_missing(node, key):
            child = node[key]
            if isinstance(child, DictConfig | ListConfig):
                yield from _find_keys(child, child_path)


def _read_environment(name: str, *default: Any) -> Any:
    """Resolve `${oc.env:NAME}` or `${oc.env:NAME,DEFAULT}`, as OmegaConf does."""
    _names_read.append(name)
    return oc.env(name, *default)


OmegaConf.register_new_resolver("oc.env", _read_environment, replace=True)
