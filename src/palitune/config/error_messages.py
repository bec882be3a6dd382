"""What Hydra and OmegaConf found wrong, in one sentence that names it and the way out."""

import re
from typing import cast

from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from palitune.cli.help import field_docs, options
from palitune.config.experiment_overrides import FILTERED
from palitune.config.recipes import RECIPE_CONFIGS
from palitune.errors import missing_choice, missing_value, unknown_choice, unknown_key

COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
"""What composing raises where what was asked for cannot be."""


def format_config_error(error: Exception) -> str:
    """Say in one sentence what is wrong, and where."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}:{mark.line + 1}: this is not YAML: {error.problem}"
    if group := re.match(r"You must specify '([^']+)'", str(error)):
        return missing_choice(group[1], options(group[1]))
    file = re.match(r"In '([^']+)'", str(error))
    where = (
        f"{file[1]}.yaml: ".replace(f"/{FILTERED}/", "/")
        if file and file[1] not in RECIPE_CONFIGS
        else ""
    )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        folder, _, name = error.missing_cfg_file.rpartition("/")
        return where + unknown_choice(folder or "file", name, error.options or [])
    if isinstance(error, HydraException) and isinstance(error.__context__, OmegaConfBaseException):
        error = error.__context__
    return where + _format_key_error(error)


def _format_key_error(error: Exception) -> str:
    key, parent = str(getattr(error, "full_key", None) or ""), getattr(error, "parent_node", {})
    if isinstance(error, ConfigKeyError):
        return unknown_key(key, (name for name in parent if name != "hydra"))
    if isinstance(error, MissingMandatoryValue):
        schema = cast(type, OmegaConf.get_type(parent))
        texts = {setting.name: setting.description for setting in field_docs(schema)}
        return missing_value(key, texts.get(key.rpartition(".")[2], ""))
    return (f"{key}: " if key else "") + first_message_line(error)


def first_message_line(error: Exception) -> str:
    """Return the first line of what a library says."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)
