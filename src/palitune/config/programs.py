"""A recipe as a program: its story, and the command line that tells it what to do."""

import functools
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

from palitune.config.schemas import recipe_of
from palitune.runs import RUNS, Command

Config = TypeVar("Config", bound=Command)
Told = TypeVar("Told", bound=Command, contravariant=True)


class Program(Protocol[Told]):
    """A recipe: called with a run it tells its story, called without it reads the command line."""

    def __call__(self, run: Told | None = None) -> None: ...


def recipe(schema: type[Config]) -> Callable[[Callable[[Config], None]], Program[Config]]:
    """Make a story about a run a program, too, configured by `conf/<schema>.yaml`.

    A schema of one's own inherits from one of Palitune's, and shares its YAML.
    """
    name = recipe_of(schema)
    RUNS[name] = schema

    def decorate(story: Callable[[Config], None]) -> Program[Config]:
        @functools.wraps(story)
        def program(run: Config | None = None) -> None:
            if run is not None:
                return story(run)
            from palitune.launching import launch

            file = sys.argv[0]
            sys.exit(launch(name, lambda: story, [file], f"python {file}", sys.argv[1:]))

        return program

    return decorate
