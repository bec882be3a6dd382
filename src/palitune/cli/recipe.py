"""A recipe as a program: its story, and the command line that tells it what to do."""

import functools
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

from palitune.config.config_store import get_recipe_name
from palitune.config.recipes import RECIPE_CONFIGS, RecipeConfig

ConfigT = TypeVar("ConfigT", bound=RecipeConfig)
ConfigT_contra = TypeVar("ConfigT_contra", bound=RecipeConfig, contravariant=True)


class RecipeProgram(Protocol[ConfigT_contra]):
    """A recipe: called with a run it tells its story, called without it reads the command line."""

    def __call__(self, run: ConfigT_contra | None = None) -> None: ...


def recipe(schema: type[ConfigT]) -> Callable[[Callable[[ConfigT], None]], RecipeProgram[ConfigT]]:
    """Make a story about a run a program, too, configured by `conf/<schema>.yaml`.

    A schema of one's own inherits from one of Palitune's, and shares its YAML.
    """
    name = get_recipe_name(schema)
    RECIPE_CONFIGS[name] = schema

    def decorate(story: Callable[[ConfigT], None]) -> RecipeProgram[ConfigT]:
        @functools.wraps(story)
        def program(run: ConfigT | None = None) -> None:
            if run is not None:
                return story(run)
            from palitune.cli.launch import launch

            file = sys.argv[0]
            sys.exit(launch(name, lambda: story, [file], f"python {file}", sys.argv[1:]))

        return program

    return decorate
