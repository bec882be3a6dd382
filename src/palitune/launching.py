"""From a recipe's command line to its exit code: one run, or several one after another."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palitune import commands, config, processes
from palitune.examples import DataError
from palitune.mistakes import FAILED, INTERRUPTED, MISTAKE, ConfigError, complain
from palitune.models.checkpoints import ModelError
from palitune.runs import RUNS, Run
from palitune.training.faults import TrainingError


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run that a command line asks for."""

    overrides: Sequence[str]
    label: str
    """What sets it apart in a sweep, e.g. `adapter.rank=8`; empty for a single run."""
    run: Run


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
            told = config.default_options(recipe_name), RUNS[recipe_name], request.config_dir
            print(commands.recipe_help(called, recipe_name, *told))
            return 0
        jobs = _jobs(recipe_name, request)
    except ConfigError as mistake:
        complain(str(mistake))
        return MISTAKE
    if request.show:
        print("---\n".join(config.to_yaml(job.run) for job in jobs), end="")
        return 0
    if request.multirun:
        return _perform_each([*program, *request.places], jobs)
    return perform(load_story, jobs[0].run)


def _jobs(recipe_name: str, request: commands.Request) -> list[Job]:
    """Compose every run that is asked for; those of a sweep share the folder of the first."""
    if not request.multirun:
        run = _compose(recipe_name, request, request.overrides)
        return [Job(overrides=request.overrides, label="", run=run)]
    jobs: list[Job] = []
    sweep_folder = None
    for overrides, label in config.combinations(request.overrides, request.config_dir):
        run = _compose(recipe_name, request, overrides)
        sweep_folder = sweep_folder or Path(run.output_dir)
        job_folder = re.sub(r"[^\w.,=+-]+", "_", f"{len(jobs)}_{label}")[:100]
        run.output_dir = str(sweep_folder / job_folder)
        told = [*overrides, f"output_dir={config.quoted(run.output_dir)}"]
        jobs.append(Job(overrides=told, label=label, run=run))
    return jobs


def _compose(recipe_name: str, request: commands.Request, overrides: Sequence[str]) -> Run:
    return config.compose(recipe_name, overrides, request.config_dir, request.run_folder)


def perform(load_story: Callable[[], Callable[[Any], None]], run: Run) -> int:
    """Load and tell the story of a run; what a user can mend ends it with one sentence."""
    _start_logging()
    try:
        run.output_dir = processes.from_first(run.output_dir)  # each made a name by its own clock
        load_story()(run)
    except (DataError, ModelError, TrainingError) as problem:
        complain(str(problem))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _perform_each(program: Sequence[str], jobs: Sequence[Job]) -> int:
    """Run every job in a process of its own: its memory is freed, its end ends no other job."""
    failed = []
    for number, job in enumerate(jobs, start=1):
        print(f"job {number} of {len(jobs)}: {job.label} -> {job.run.output_dir}", flush=True)
        try:
            done = subprocess.run([sys.executable, *program, *job.overrides], check=False)
        except KeyboardInterrupt:
            return INTERRUPTED
        if done.returncode == INTERRUPTED:
            return INTERRUPTED
        if done.returncode != 0:
            failed.append(job.label)
    if failed:
        complain(f"{len(failed)} of {len(jobs)} jobs failed: {'; '.join(failed)}")
    return FAILED if failed else 0


def _start_logging() -> None:
    """Show what Palitune says, on the main process, and only warnings of the libraries."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    level = logging.INFO if processes.is_first() else logging.WARNING
    logging.getLogger("palitune").setLevel(level)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
