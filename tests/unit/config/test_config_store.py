"""A schema of one's own is composed as one of Palitune's."""

from dataclasses import dataclass

import pytest

from palitune.config import Finetune, compose, recipe
from palitune.config.recipes import RECIPE_CONFIGS

from support.config_errors import BOATS, config_error_message


def test_a_schema_of_ones_own_adds_settings_to_the_recipe_it_inherits_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(RECIPE_CONFIGS, "finetune", Finetune)

    @dataclass(kw_only=True)
    class Mine(Finetune):
        shout: bool = False

    try:
        recipe(Mine)
        run = compose("finetune", [*BOATS, "shout=true"])
        assert isinstance(run, Mine)
        assert run.shout
    finally:
        recipe(Finetune)
    assert "there is no key 'shout'" in config_error_message(*BOATS, "shout=true")
