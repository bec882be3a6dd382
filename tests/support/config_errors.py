"""Overrides for tests of the configuration, and the error message of invalid ones."""

import pytest

from palitune.config.compose import compose
from palitune.config.recipes import RECIPE_CONFIGS
from palitune.errors import ConfigError

BOATS = ["data=coco", "data.path=boats", "task=detection"]
QUICKSTART = ["experiment=quickstart"]


def config_error_message(*overrides: str, recipe: str = "finetune", **config_source: str) -> str:
    """Return the message, one line, of the error that composing raises."""
    with pytest.raises(ConfigError) as error_info:
        compose(RECIPE_CONFIGS[recipe], overrides, **config_source)
    text = str(error_info.value)
    assert text.count("\n") == 0
    return text
