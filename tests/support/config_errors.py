"""What tests of the configuration are told, and the sentence that answers a mistake."""

import pytest

from palitune.config import ConfigError, compose

BOATS = ["data=coco", "data.path=boats", "task=detection"]
QUICKSTART = ["experiment=quickstart"]


def config_error_message(*overrides: str, recipe: str = "finetune", **config_source: str) -> str:
    with pytest.raises(ConfigError) as caught:
        compose(recipe, overrides, **config_source)
    text = str(caught.value)
    assert text.count("\n") == 0
    return text
