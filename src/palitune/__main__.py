"""The program `palitune`."""

import gc
import importlib.util
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from palitune import __version__, paths
from palitune.cli import help
from palitune.config import catalog
from palitune.errors import (
    CLOSED_PIPE,
    INTERRUPTED,
    PREEMPTED,
    USAGE_ERROR,
    ConfigError,
    print_error,
    unknown_choice,
)


def main() -> None:
    """Run the command line and exit with its exit code."""
    signal.signal(signal.SIGTERM, _end_early)
    try:
        exit_code = run(sys.argv[1:])
        sys.stdout.flush()
        sys.exit(exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of the output has ended, as in `palitune list | head -1`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CLOSED_PIPE)


def _end_early(signum: int, frame: object) -> None:
    """End at SIGTERM before a recipe handles the signal itself."""
    # A signal handler must not use buffered streams, which may be in use.
    os.write(2, b"palitune: ended by SIGTERM; nothing was saved\n")
    sys.exit(PREEMPTED)


def run(argv: list[str]) -> int:
    """Run the given arguments and return the exit code."""
    # Imports and composed nodes stay alive; collecting garbage would take a tenth of the time.
    gc.disable()
    try:
        match argv:
            case [] | ["--help" | "-h", *_]:
                print(help.overview())
            case ["--version"]:
                print(f"palitune {__version__}")
            case ["list", *arguments]:
                from palitune.config.recipes import GROUPS

                print(help.list_command(arguments, GROUPS))
            case ["copy", *arguments]:
                print(help.copy_command(arguments))
            case ["schema", *arguments]:
                print(help.schema_command(arguments))
            case ["completion", *arguments]:
                from palitune.cli.completion import completion_command

                print(completion_command(arguments))
            case [name, *arguments] if name in catalog.recipes():
                return _launch_recipe(name, arguments)
            case [name, *_]:
                from palitune.config.aliases import RECIPE_ALIASES

                names = [*catalog.recipes(), "list", "copy", "schema", "completion"]
                raise ConfigError(
                    unknown_choice("recipe", name, names, RECIPE_ALIASES.get(name.lower()))
                )
    except ConfigError as error:
        print_error(str(error))
        return USAGE_ERROR
    finally:
        gc.enable()
    return 0


def _launch_recipe(name: str, argv: list[str]) -> int:
    from palitune.cli.launch import launch
    from palitune.config.recipes import RECIPE_CONFIGS

    python_args = ["-m", "palitune", name]
    prog = f"palitune {name}"
    return launch(RECIPE_CONFIGS[name], lambda: _load_recipe(name), python_args, prog, argv)


def _load_recipe(name: str) -> Callable[[Any], None]:
    """Import `recipes/<name>.py`, and with it torch and other heavy libraries."""
    gc.enable()
    file = paths.resource_dir("recipes") / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"palitune.recipes.{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    function: Callable[[Any], None] = getattr(module, name)
    return function


if __name__ == "__main__":
    main()
