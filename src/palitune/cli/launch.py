"""Run a recipe's command line: compose, start processes or a sweep, return the exit code."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from palitune.cli.arguments import CliArguments, parse_arguments
from palitune.cli.help import recipe_help
from palitune.config.compose import compose
from palitune.config.config_store import default_options
from palitune.config.data_folder import equivalent_command, folder_settings, split_folder
from palitune.config.overrides import expand_positional
from palitune.config.preflight import check_run, judge_on_validation, warn_of_whole_images
from palitune.config.recipes import (
    Align,
    DataRecipeConfig,
    Evaluate,
    Finetune,
    ModelRecipeConfig,
    Predict,
    RecipeConfig,
)
from palitune.config.to_yaml import to_yaml
from palitune.distributed import collectives, preemption
from palitune.distributed.launcher import launch_processes
from palitune.distributed.loader_failures import describe_killed_worker
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
from palitune.report.run_claim import check_output, claim_output
from palitune.sweeps.launch_sweep import launch_sweep
from palitune.sweeps.sweep import SweepRequest

_DISK_FULL_ERRNOS = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
_MACHINE_ERRNOS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR,
    errno.ELOOP, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ETXTBSY,
)  # fmt: skip
"""Errors of files whose cause is the machine or the user's folders, not the program."""

RecipeLoader = Callable[[], Callable[[Any], None]]


def launch(
    schema: type[RecipeConfig],
    load_recipe: RecipeLoader,
    python_args: Sequence[str],
    prog: str,
    argv: list[str],
) -> int:
    """Run the command line of a recipe and return the exit code.

    Nothing is written and no recipe is loaded before the configuration of every job is valid.

    Args:
        schema: Configuration dataclass of the recipe.
        load_recipe: Imports the recipe and returns its function.
        python_args: Arguments of the Python interpreter that run this recipe in a new process.
        prog: Program name for the usage line of the help.
        argv: Flags and overrides.
    """
    try:
        arguments = parse_arguments(argv)
        if arguments.help:
            defaults, config_dir = default_options(schema), arguments.config_dir
            positional = schema.positional_field
            takes_folder = issubclass(schema, DataRecipeConfig)
            print(
                recipe_help(
                    prog, schema.name, schema, defaults, positional, config_dir,
                    takes_folder=takes_folder,
                )
            )  # fmt: skip
            return 0
        overrides = _expand_folder(
            schema, expand_positional(schema, arguments.overrides), arguments
        )
        command = [*python_args, *arguments.config_flags]
        if arguments.multirun:
            request = SweepRequest(
                schema, overrides, arguments.config_dir, arguments.run_folder, command
            )
            return launch_sweep(request, show_config=arguments.show_config)
        run = compose(schema, overrides, arguments.config_dir, arguments.run_folder)
        if arguments.show_config:
            print(to_yaml(run), end="")
            return 0
        judge_on_validation(run)
        warn_of_whole_images(run)
        if collectives.world_size() == 1:
            check_output(run)
            check_run(run)
    except ConfigError as error:
        print_error(str(error))
        return USAGE_ERROR
    except (DataError, ModelError) as error:
        print_error(str(error))
        return FAILED
    if isinstance(run, Finetune | Evaluate | Predict):
        return _run_distributed(run.launch, [*command, *overrides], load_recipe, run)
    return run_recipe(load_recipe, run)


def _expand_folder(
    schema: type[RecipeConfig], overrides: list[str], arguments: CliArguments
) -> list[str]:
    """Replace a folder among the overrides by the settings that read it, and print them."""
    folder, others = split_folder(schema, overrides)
    if folder is None:
        return overrides
    has_other_config = arguments.run_folder is not None or any(
        text.startswith("experiment=") for text in others
    )
    settings, recognized = folder_settings(folder, others, has_other_config=has_other_config)
    if recognized is not None and collectives.is_main_process():
        stream = sys.stderr if arguments.show_config else sys.stdout
        flags = [*arguments.config_flags, *(["--multirun"] if arguments.multirun else [])]
        print(recognized.description, file=stream)
        print(f"the same: {equivalent_command(schema.name, settings, flags)}", file=stream)
        stream.flush()
    return settings


def run_recipe(load_recipe: RecipeLoader, run: RecipeConfig) -> int:
    """Load and execute a recipe; an error that the user can fix is printed as one sentence."""
    _configure_logging()
    _configure_cuda_memory()
    with preemption.handle_sigterm(), ExitStack() as stack:
        try:
            # Each process derived the default folder from its own clock.
            run.output_dir = collectives.run_on_main_process(lambda: claim_output(run, stack))
            load_recipe()(run)
        except ConfigError as error:
            print_error(str(error))
            return USAGE_ERROR
        except (DataError, ModelError, TrainingError) as error:
            print_error(str(error))
            return FAILED
        except KeyboardInterrupt:
            return _report_end("interrupted", INTERRUPTED, run)
        except preemption.Preempted as error:
            return _report_preemption(str(error), run)
        except Exception as error:
            # After SIGTERM to the process group, a data loader worker may have ended first.
            if preemption.preemption_requested():
                return _report_preemption(str(error), run)
            if _is_out_of_memory(error) and isinstance(run, ModelRecipeConfig):
                print_error(_describe_out_of_memory(run))
                return FAILED
            if message := describe_killed_worker(error):
                print_error("; ".join(filter(None, [message, _resume(run)])))
                return FAILED
            if not (message := _describe_file_error(error)):
                raise
            print_error("; ".join(filter(None, [message, _resume(run)])))
            return FAILED
    return 0


def _describe_file_error(error: Exception) -> str | None:
    """Return a sentence about a file that the machine cannot read or write, else None."""
    if not isinstance(error, OSError):
        return None
    if error.errno in _DISK_FULL_ERRNOS:
        return f"{error}: free some disk space"
    if error.errno in _MACHINE_ERRNOS:
        return f"{error.filename} cannot be read or written ({error.strerror})"
    return None


def _is_out_of_memory(error: Exception) -> bool:
    from palitune.models.device_memory import is_out_of_memory

    return is_out_of_memory(error)


def _describe_out_of_memory(run: ModelRecipeConfig) -> str:
    """Return a sentence about a run that ran out of memory, with settings that would fit."""
    from palitune.planning.out_of_memory import FailedRun, describe_out_of_memory

    data: Any = getattr(run, "data", None)
    return describe_out_of_memory(
        FailedRun(
            run.model, run.adapter, run.training, run.evaluation, data, run.task,
            trains=isinstance(run, Finetune),
        )
    )  # fmt: skip


def _run_distributed(
    strategy: Strategy, command: Sequence[str], load_recipe: RecipeLoader, run: RecipeConfig
) -> int:
    """Start the processes of a run, or run this process's part if they are already started."""
    try:
        if isinstance(run, Align) and isinstance(strategy, Fsdp | DeepSpeed):
            raise DataError(
                f"launch={strategy.name} is not supported by align, which generates text during "
                "training; set launch=ddp"
            )
        strategy.check_requirements()
        if isinstance(strategy, MultiProcess) and strategy.needs_launch():
            return launch_processes(strategy, command)
        strategy.init_process()
    except DataError as error:
        print_error(str(error))
        return FAILED
    return run_recipe(load_recipe, run)


def _report_preemption(detail: str, run: RecipeConfig) -> int:
    if preemption.interrupt_requested():
        return _report_end("; ".join(filter(None, ["interrupted", detail])), INTERRUPTED, run)
    return _report_end("; ".join(filter(None, ["ended by SIGTERM", detail])), PREEMPTED, run)


def _report_end(cause: str, exit_code: int, run: RecipeConfig) -> int:
    if collectives.is_main_process():
        print_error("; ".join(filter(None, [cause, _resume(run) or "nothing was saved"])))
    return exit_code


def _resume(run: RecipeConfig) -> str:
    """Return how a run that ended early is resumed; empty if nothing was saved."""
    folder = f" and output_dir={run.output_dir}" if run.has_default_folder else ""
    if isinstance(run, Finetune) and any(Path(run.output_dir).glob("checkpoints/checkpoint-*")):
        return (
            f"add training.resume=auto{folder} to the same command to resume from the last "
            "checkpoint"
        )
    if isinstance(run, Evaluate) and any(
        (Path(name) / "predictions.jsonl").is_file() for name in run.written_folders()
    ):
        return f"the same command{folder.replace(' and', ' with')} resumes the evaluation"
    return ""


def _configure_logging() -> None:
    """Log Palitune's messages on the main process, and only warnings of other libraries."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    level = logging.INFO if collectives.is_main_process() else logging.WARNING
    logging.getLogger("palitune").setLevel(level)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from palitune.distributed.progress import shows_bars

    if not shows_bars():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _configure_cuda_memory() -> None:
    """Let torch's CUDA allocator extend its segments, unless it is configured otherwise.

    Rows of varying length otherwise fragment GPU memory. torch reads the variable only once.
    """
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
