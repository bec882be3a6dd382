"""From a recipe's command line to its exit code: one run, or the jobs of a sweep."""

import errno
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from palitune import config
from palitune.cli import help
from palitune.config.recipes import RECIPE_CONFIGS, Align, Evaluate, Finetune, Predict, RecipeConfig
from palitune.distributed import collectives, preemption
from palitune.distributed.launcher import launch_processes
from palitune.distributed.strategies import DeepSpeed, Fsdp, MultiProcess, Strategy
from palitune.errors import (
    FAILED,
    INTERRUPTED,
    PREEMPTED,
    USAGE_ERROR,
    ConfigError,
    DataError,
    ModelError,
    TrainingError,
    print_error,
)
from palitune.sweeps import sweep

_DISK_FULL_ERRNOS = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
_RESUME_HINT = "the same command goes on from the last checkpoint with training.resume=auto"


def launch(
    recipe_name: str,
    load_recipe: Callable[[], Callable[[Any], None]],
    python_args: Sequence[str],
    prog: str,
    argv: list[str],
) -> int:
    """Do what a recipe's command line asks for and return the exit code.

    `program` is what the Python interpreter runs, `called` what the user calls it. Nothing is
    written and no story is loaded before the configuration of every job is found valid.
    """
    try:
        request = help.parse_arguments(argv)
        if request.help:
            known = (
                config.default_options(recipe_name),
                RECIPE_CONFIGS[recipe_name],
                request.config_dir,
            )
            print(help.recipe_help(prog, recipe_name, *known))
            return 0
        told = config.expand_positional(recipe_name, request.overrides)
        if request.multirun:
            return sweep.launch_sweep(recipe_name, request, told, python_args)
        run = config.compose(recipe_name, told, request.config_dir, request.run_folder)
    except ConfigError as mistake:
        print_error(str(mistake))
        return USAGE_ERROR
    if request.show_config:
        print(config.to_yaml(run), end="")
        return 0
    if isinstance(run, Finetune | Evaluate | Predict):
        return _run_distributed(
            run.launch, [*python_args, *request.config_flags, *told], load_recipe, run
        )
    return run_recipe(load_recipe, run)


def run_recipe(load_recipe: Callable[[], Callable[[Any], None]], run: RecipeConfig) -> int:
    """Load and tell the story of a run; what a user can mend ends it with one sentence."""
    _configure_logging()
    with preemption.handle_sigterm():
        try:
            # Each process made a name by its own clock.
            run.output_dir = collectives.broadcast_from_main(run.output_dir)
            load_recipe()(run)
        except (DataError, ModelError, TrainingError) as problem:
            print_error(str(problem))
            return FAILED
        except KeyboardInterrupt:
            return INTERRUPTED
        except preemption.Preempted as ending:
            return _report_preemption(str(ending))
        except Exception as problem:
            # What else was asked to end, such as a process that reads images, has ended first.
            if preemption.preemption_requested():
                return _report_preemption(str(problem))
            if not isinstance(problem, OSError) or problem.errno not in _DISK_FULL_ERRNOS:
                raise
            print_error(f"{problem}: free space; {_RESUME_HINT}")
            return FAILED
    return 0


def _run_distributed(
    strategy: Strategy, command: Sequence[str], load_recipe: Callable[[], Any], run: RecipeConfig
) -> int:
    """Start the processes that do a run together; in one that was started, do its part."""
    try:
        if isinstance(run, Align) and isinstance(strategy, Fsdp | DeepSpeed):
            raise DataError(
                f"launch={strategy.name} does not serve align, which samples answers while it "
                "trains; say launch=ddp"
            )
        strategy.check_requirements()
        if isinstance(strategy, MultiProcess) and strategy.needs_launch():
            return launch_processes(strategy, command)
        strategy.init_process()
    except DataError as mistake:
        print_error(str(mistake))
        return FAILED
    return run_recipe(load_recipe, run)


def _report_preemption(detail: str) -> int:
    print_error("; ".join(filter(None, ["ended by SIGTERM", detail, _RESUME_HINT])))
    return PREEMPTED


def _configure_logging() -> None:
    """Show what Palitune says, on the main process, and only warnings of the libraries."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    level = logging.INFO if collectives.is_main_process() else logging.WARNING
    logging.getLogger("palitune").setLevel(level)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
