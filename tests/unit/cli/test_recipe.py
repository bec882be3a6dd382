"""A recipe is a function of a run, and a program."""

from palitune.config import Finetune, compose, recipe

from support.config_errors import BOATS


def test_a_recipe_called_with_a_run_tells_its_story() -> None:
    told = []

    @recipe(Finetune)
    def finetune(run: Finetune) -> None:
        """A story."""
        told.append(run)

    run = compose("finetune", BOATS)
    assert isinstance(run, Finetune)
    finetune(run)
    assert told == [run]
    assert finetune.__doc__ == "A story."
