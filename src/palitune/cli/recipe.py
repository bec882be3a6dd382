"""The `recipe` decorator: a function of a run that is also a command-line program."""

import functools
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

from palitune.config.recipes import RecipeConfig

ConfigT = TypeVar("ConfigT", bound=RecipeConfig)
ConfigT_contra = TypeVar("ConfigT_contra", bound=RecipeConfig, contravariant=True)


class RecipeProgram(Protocol[ConfigT_contra]):
    """A decorated recipe: with a run it executes it, without one it reads the command line."""

    def __call__(self, run: ConfigT_contra | None = None) -> None: ...


def recipe(schema: type[ConfigT]) -> Callable[[Callable[[ConfigT], None]], RecipeProgram[ConfigT]]:
    """Make a function of a run also a program, configured by `conf/<schema.name>.yaml`.

    To add settings in a recipe of your own, inherit from a schema such as `Finetune`.
    """

    def decorate(function: Callable[[ConfigT], None]) -> RecipeProgram[ConfigT]:
        @functools.wraps(function)
        def program(run: ConfigT | None = None) -> None:
            if run is not None:
                return function(run)
            from palitune.cli.launch import launch

            file = sys.argv[0]
            sys.exit(launch(schema, lambda: function, [file], f"python {file}", sys.argv[1:]))

        return program

    return decorate
