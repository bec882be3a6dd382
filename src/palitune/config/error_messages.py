"""Messages for errors of Hydra and OmegaConf: one sentence with the location and the way out."""

import re
from typing import cast

from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from palitune.config.catalog import field_docs, options
from palitune.config.experiment_overrides import FILTERED
from palitune.config.recipes import RECIPE_CONFIGS
from palitune.errors import missing_choice, missing_value, unknown_choice, unknown_key

COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
"""Exceptions raised by composing an invalid configuration."""


def format_config_error(error: Exception) -> str:
    """Return one sentence with the location of an error and its cause."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"{mark.name}:{mark.line + 1}: invalid YAML: {error.problem}"
    if group := re.match(r"You must specify '([^']+)'", str(error)):
        return missing_choice(group[1], options(group[1]))
    if nested := re.match(r"Could not override '(search_space)@search\.space'", str(error)):
        return f"{nested[1]} has no effect without a search; set search=optuna"
    file = re.match(r"In '([^']+)'", str(error))
    is_root = file is not None and file[1] in (*RECIPE_CONFIGS, "_defaults")
    location = f"{file[1]}.yaml: ".replace(f"/{FILTERED}/", "/") if file and not is_root else ""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        folder, _, name = error.missing_cfg_file.rpartition("/")
        return location + unknown_choice(folder or "file", name, error.options or [])
    if isinstance(error, HydraException) and isinstance(error.__context__, OmegaConfBaseException):
        error = error.__context__
    return location + _format_key_error(error)


def _format_key_error(error: Exception) -> str:
    key, parent = str(getattr(error, "full_key", None) or ""), getattr(error, "parent_node", {})
    if isinstance(error, ConfigKeyError):
        return unknown_key(key, (name for name in parent if name != "hydra"))
    if isinstance(error, MissingMandatoryValue):
        schema = cast(type, OmegaConf.get_type(parent))
        descriptions = {doc.name: doc.description for doc in field_docs(schema)}
        return missing_value(key, descriptions.get(key.rpartition(".")[2], ""))
    return (f"{key}: " if key else "") + first_message_line(error)


def first_message_line(error: Exception) -> str:
    """Return the first line of a library's message."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)
