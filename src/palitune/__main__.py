"""The program `palitune`: what there is, and the recipes that do it."""

import gc
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

from palitune import __version__, commands
from palitune.mistakes import INTERRUPTED, MISTAKE, ConfigError, complain, not_among


def main() -> None:
    """Do what the command line says and end with its exit code."""
    try:
        sys.exit(run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def run(arguments: list[str]) -> int:
    """Do what the arguments say and return the exit code."""
    # What is imported and composed stays; to look through it for garbage takes a tenth of the time.
    gc.disable()
    try:
        match arguments:
            case [] | ["--help" | "-h", *_]:
                print(commands.overview())
            case ["--version"]:
                print(f"palitune {__version__}")
            case ["list", *what]:
                from palitune.runs import GROUPS

                print(commands.list_command(what, GROUPS))
            case ["copy", *what]:
                print(commands.copy_command(what))
            case [name, *told] if name in commands.recipes():
                return _launch(name, told)
            case [name, *_]:
                known = [*commands.recipes(), "list", "copy"]
                raise ConfigError(not_among("recipe", name, known))
    except ConfigError as mistake:
        complain(str(mistake))
        return MISTAKE
    finally:
        gc.enable()
    return 0


def _launch(name: str, told: list[str]) -> int:
    from palitune.launching import launch

    program = ["-m", "palitune", name]
    return launch(name, lambda: _story(name), program, f"palitune {name}", told)


def _story(name: str) -> Callable[[Any], None]:
    """Load `recipes/<name>.py`; what it needs of torch and its like is imported now."""
    gc.enable()
    file = commands.bundled("recipes") / f"{name}.py"
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
