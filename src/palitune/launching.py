"""From a recipe's command line to its exit code: one run, or the jobs of a sweep."""

import errno
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from palitune import commands, config, preemption, processes, sweeps
from palitune.elastic import start
from palitune.engines import DeepSpeed, Fsdp, Launch, Processes
from palitune.examples import DataError
from palitune.mistakes import FAILED, INTERRUPTED, MISTAKE, PREEMPTED, ConfigError, complain
from palitune.models.checkpoints import ModelError
from palitune.runs import RUNS, Align, Command, Evaluate, Finetune, Predict
from palitune.training.faults import TrainingError

_DISK_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
_GO_ON = "the same command goes on from the last checkpoint with training.resume=auto"


def launch(
    recipe_name: str,
    load_story: Callable[[], Callable[[Any], None]],
    program: Sequence[str],
    called: str,
    arguments: list[str],
) -> int:
    """Do what a recipe's command line asks for and return the exit code.

    `program` is what the Python interpreter runs, `called` what the user calls it. Nothing is
    written and no story is loaded before the configuration of every job is found valid.
    """
    try:
        request = commands.parse(arguments)
        if request.help:
            known = config.default_options(recipe_name), RUNS[recipe_name], request.config_dir
            print(commands.recipe_help(called, recipe_name, *known))
            return 0
        told = config.with_words(recipe_name, request.overrides)
        if request.multirun:
            return sweeps.launch(recipe_name, request, told, program)
        run = config.compose(recipe_name, told, request.config_dir, request.run_folder)
    except ConfigError as mistake:
        complain(str(mistake))
        return MISTAKE
    if request.show:
        print(config.to_yaml(run), end="")
        return 0
    if isinstance(run, Finetune | Evaluate | Predict):
        return _share(run.launch, [*program, *request.places, *told], load_story, run)
    return perform(load_story, run)


def perform(load_story: Callable[[], Callable[[Any], None]], run: Command) -> int:
    """Load and tell the story of a run; what a user can mend ends it with one sentence."""
    _start_logging()
    with preemption.heard():
        try:
            # Each process made a name by its own clock.
            run.output_dir = processes.from_first(run.output_dir)
            load_story()(run)
        except (DataError, ModelError, TrainingError) as problem:
            complain(str(problem))
            return FAILED
        except KeyboardInterrupt:
            return INTERRUPTED
        except preemption.Preempted as ending:
            return _preempted(str(ending))
        except Exception as problem:
            # What else was asked to end, such as a process that reads images, has ended first.
            if preemption.asked():
                return _preempted(str(problem))
            if not isinstance(problem, OSError) or problem.errno not in _DISK_FULL:
                raise
            complain(f"{problem}: free space; {_GO_ON}")
            return FAILED
    return 0


def _share(
    launch: Launch, command: Sequence[str], load_story: Callable[[], Any], run: Command
) -> int:
    """Start the processes that do a run together; in one that was started, do its part."""
    try:
        if isinstance(run, Align) and isinstance(launch, Fsdp | DeepSpeed):
            raise DataError(
                f"launch={launch.name} does not serve align, which samples answers while it "
                "trains; say launch=processes"
            )
        launch.check()
        if isinstance(launch, Processes) and launch.starts():
            return start(launch, command)
        launch.join()
    except DataError as mistake:
        complain(str(mistake))
        return FAILED
    return perform(load_story, run)


def _preempted(said: str) -> int:
    complain("; ".join(filter(None, ["ended by SIGTERM", said, _GO_ON])))
    return PREEMPTED


def _start_logging() -> None:
    """Show what Palitune says, on the main process, and only warnings of the libraries."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    level = logging.INFO if processes.is_first() else logging.WARNING
    logging.getLogger("palitune").setLevel(level)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
