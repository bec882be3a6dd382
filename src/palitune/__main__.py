"""The program `palitune`: what there is, and the recipes that do it."""

import gc
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from palitune import __version__, paths
from palitune.cli import help
from palitune.errors import INTERRUPTED, USAGE_ERROR, ConfigError, print_error, unknown_choice


def main() -> None:
    """Do what the command line says and end with its exit code."""
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def run(argv: list[str]) -> int:
    """Do what the arguments say and return the exit code."""
    # What is imported and composed stays; to look through it for garbage takes a tenth of the time.
    gc.disable()
    try:
        match argv:
            case [] | ["--help" | "-h", *_]:
                print(help.overview())
            case ["--version"]:
                print(f"palitune {__version__}")
            case ["list", *what]:
                from palitune.config.recipes import GROUPS

                print(help.list_command(what, GROUPS))
            case ["copy", *what]:
                print(help.copy_command(what))
            case [name, *told] if name in help.recipes():
                return _launch_recipe(name, told)
            case [name, *_]:
                known = [*help.recipes(), "list", "copy"]
                raise ConfigError(unknown_choice("recipe", name, known))
    except ConfigError as mistake:
        print_error(str(mistake))
        return USAGE_ERROR
    finally:
        gc.enable()
    return 0


def _launch_recipe(name: str, recipe_args: list[str]) -> int:
    from palitune.cli.launch import launch

    program = ["-m", "palitune", name]
    return launch(name, lambda: _load_recipe(name), program, f"palitune {name}", recipe_args)


def _load_recipe(name: str) -> Callable[[Any], None]:
    """Load `recipes/<name>.py`; what it needs of torch and its like is imported now."""
    gc.enable()
    file = paths.resource_dir("recipes") / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"palitune.recipes.{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    story: Callable[[Any], None] = getattr(module, name)
    return story


if __name__ == "__main__":
    main()
