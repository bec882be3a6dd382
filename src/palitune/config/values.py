"""One value of the command line, set where its key says."""

from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from palitune.cli.help import options
from palitune.config.error_messages import first_message_line
from palitune.errors import ConfigError, missing_choice, unknown_key


def set_value(composed: DictConfig, override: Override) -> None:
    """Set one value; every step of its key must exist, except in a plain dictionary."""
    key, value = override.key_or_group, override.value()
    steps = key.split(".")
    node: Any = composed
    for depth, step in enumerate(steps, start=1):
        is_last = depth == len(steps)
        plain = is_last and OmegaConf.get_type(node) is dict
        if not plain and step not in list(node):
            raise ConfigError(unknown_key(".".join(steps[:depth]), list(node)))
        child = None if is_last else node[step]
        if child is None and not is_last:
            raise ConfigError(f"{override.input_line}: {missing_choice(step, options(step))}")
        if not isinstance(child, DictConfig):
            break
        node = child
    try:
        OmegaConf.update(composed, key, value, merge=True)
    except OmegaConfBaseException as mistake:
        cause = "it cannot be null" if value is None else first_message_line(mistake)
        raise ConfigError(f"{override.input_line}: {cause}") from mistake
