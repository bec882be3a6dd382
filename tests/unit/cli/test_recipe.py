"""The `recipe` decorator."""

from dataclasses import dataclass

from palitune.cli.recipe import recipe
from palitune.config.compose import compose
from palitune.config.recipes import RECIPE_CONFIGS, Finetune

from support.config_errors import BOATS, config_error_message


def test_a_recipe_called_with_a_run_executes_it() -> None:
    runs = []

    @recipe(Finetune)
    def finetune(run: Finetune) -> None:
        """Docstring."""
        runs.append(run)

    run = compose(Finetune, BOATS)
    finetune(run)
    assert runs == [run]
    assert finetune.__doc__ == "Docstring."


def test_a_recipe_with_a_schema_of_ones_own_changes_no_other_recipe() -> None:
    @dataclass(kw_only=True)
    class Mine(Finetune):
        shout: bool = False

    recipe(Mine)
    assert compose(Mine, [*BOATS, "shout=true"]).shout
    assert RECIPE_CONFIGS["finetune"] is Finetune
    assert "there is no key 'shout'" in config_error_message(*BOATS, "shout=true")
