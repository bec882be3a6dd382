"""What Hydra and OmegaConf found wrong, in one sentence that names it and the way out."""

import re
from typing import cast

from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]

from palitune.commands import options, settings
from palitune.config.experiments import REST
from palitune.mistakes import must_choose, must_give, no_key, not_among
from palitune.runs import RUNS

MISTAKES = (HydraException, OmegaConfBaseException, YAMLError, ValueError)
"""What composing raises where what was asked for cannot be."""


def sentence(mistake: Exception) -> str:
    """Say in one sentence what is wrong, and where."""
    if isinstance(mistake, MarkedYAMLError) and mistake.problem_mark:
        mark = mistake.problem_mark
        return f"{mark.name}:{mark.line + 1}: this is not YAML: {mistake.problem}"
    if group := re.match(r"You must specify '([^']+)'", str(mistake)):
        return must_choose(group[1], options(group[1]))
    file = re.match(r"In '([^']+)'", str(mistake))
    where = f"{file[1]}.yaml: ".replace(f"/{REST}/", "/") if file and file[1] not in RUNS else ""
    if isinstance(mistake, MissingConfigException) and mistake.missing_cfg_file:
        folder, _, name = mistake.missing_cfg_file.rpartition("/")
        return where + not_among(folder or "file", name, mistake.options or [])
    if isinstance(mistake, HydraException) and isinstance(
        mistake.__context__, OmegaConfBaseException
    ):
        mistake = mistake.__context__
    return where + _of_a_key(mistake)


def _of_a_key(mistake: Exception) -> str:
    key, parent = str(getattr(mistake, "full_key", None) or ""), getattr(mistake, "parent_node", {})
    if isinstance(mistake, ConfigKeyError):
        return no_key(key, (name for name in parent if name != "hydra"))
    if isinstance(mistake, MissingMandatoryValue):
        schema = cast(type, OmegaConf.get_type(parent))
        texts = {setting.name: setting.text for setting in settings(schema)}
        return must_give(key, texts.get(key.rpartition(".")[2], ""))
    return (f"{key}: " if key else "") + first_line(mistake)


def first_line(mistake: Exception) -> str:
    """Return the first line of what a library says."""
    lines = [line.strip() for line in str(mistake).splitlines()]
    return next((line for line in lines if line), type(mistake).__name__)
