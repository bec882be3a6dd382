"""From a recipe's command line to its exit code: one run, or several one after another.

A sweep writes one folder: a folder per job, and `sweep.json`, which says what became of each job.
"""

import codecs
import errno
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palitune import commands, config, preemption, processes
from palitune.engines import Processes, start
from palitune.examples import DataError
from palitune.mistakes import FAILED, INTERRUPTED, MISTAKE, PREEMPTED, ConfigError, complain
from palitune.models.checkpoints import ModelError
from palitune.report.labels import told_apart
from palitune.runs import RUNS, Command, Evaluate, Finetune
from palitune.training.faults import TrainingError

SWEEP_FILE = "sweep.json"
_DISK_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
_GO_ON = "the same command goes on from the last checkpoint with training.resume=auto"


@dataclass(kw_only=True)
class Job:
    """One run that a command line asks for."""

    overrides: Sequence[str]
    label: str
    """What sets it apart in a sweep, e.g. `adapter.rank=8`; empty for a single run."""
    run: Command
    state: str = "waiting"
    """waiting | done | failed | interrupted."""
    said: str = ""
    """The sentence that it failed with."""


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
        return _perform_each(recipe_name, [*program, *request.places], jobs)
    run, command = jobs[0].run, [*program, *request.places, *jobs[0].overrides]
    if isinstance(run, Finetune | Evaluate) and isinstance(run.launch, Processes):
        return _share(run.launch, command, load_story, run)
    return perform(load_story, run)


def _jobs(recipe_name: str, request: commands.Request) -> list[Job]:
    """Compose every run that is asked for; those of a sweep share the folder of the first."""
    told = config.with_words(recipe_name, request.overrides)
    if not request.multirun:
        return [Job(overrides=told, label="", run=_compose(recipe_name, request, told))]
    combined = list(config.combinations(told, request.config_dir))
    names = _folder_names([swept for _, swept in combined])
    jobs: list[Job] = []
    sweep_folder = None
    for (overrides, swept), name in zip(combined, names, strict=True):
        run = _compose(recipe_name, request, overrides)
        sweep_folder = sweep_folder or Path(run.output_dir)
        run.output_dir = str(sweep_folder / name)
        told = [*overrides, f"output_dir={config.quoted(run.output_dir)}"]
        jobs.append(Job(overrides=told, label=",".join(swept), run=run))
    return jobs


def _folder_names(swept: Sequence[Sequence[str]]) -> list[str]:
    """Name the jobs by number and swept values: `0_adapter.rank=8`, paths by what differs."""
    columns = []
    for column in zip(*swept, strict=True):
        keys = [text.partition("=")[0] for text in column]
        values = told_apart([text.partition("=")[2].strip("'\"") for text in column])
        columns.append([f"{key}={value}" for key, value in zip(keys, values, strict=True)])
    digits = len(str(len(swept) - 1))
    labels = [",".join(texts) for texts in zip(*columns, strict=True)] or [""] * len(swept)
    return [
        re.sub(r"[^\w.,=+-]+", "_", f"{number:0{digits}}_{label}")[:100]
        for number, label in enumerate(labels)
    ]


def _compose(recipe_name: str, request: commands.Request, overrides: Sequence[str]) -> Command:
    return config.compose(recipe_name, overrides, request.config_dir, request.run_folder)


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
    launch: Processes, command: Sequence[str], load_story: Callable[[], Any], run: Command
) -> int:
    """Start the processes that do a run together; in one that was started, do its part."""
    try:
        if launch.starts():
            return start(launch, command)
        launch.check()
    except DataError as mistake:
        complain(str(mistake))
        return FAILED
    return perform(load_story, run)


def _preempted(said: str) -> int:
    complain("; ".join(filter(None, ["ended by SIGTERM", said, _GO_ON])))
    return PREEMPTED


def _perform_each(recipe_name: str, program: Sequence[str], jobs: Sequence[Job]) -> int:
    """Run every job in a process of its own: its memory is freed, its end ends no other job."""
    folder = Path(jobs[0].run.output_dir).parent
    folder.mkdir(parents=True, exist_ok=True)
    for number, job in enumerate(jobs, start=1):
        print(f"job {number} of {len(jobs)}: {job.label} -> {job.run.output_dir}", flush=True)
        job.state = "interrupted"
        _write_sweep(folder, recipe_name, jobs)
        try:
            with preemption.heard():
                code, last = _watched([sys.executable, *program, *job.overrides])
        except KeyboardInterrupt:
            return INTERRUPTED
        except preemption.Preempted:
            return PREEMPTED
        if code in (INTERRUPTED, PREEMPTED):
            return code
        job.state, job.said = ("done", "") if code == 0 else ("failed", _reason(code, last))
        _write_sweep(folder, recipe_name, jobs)
    failed = [job for job in jobs if job.state == "failed"]
    print(f"sweep: {len(jobs) - len(failed)} of {len(jobs)} jobs done, in {folder}")
    if any(Path(job.run.output_dir, "metrics.json").is_file() for job in jobs):
        print(f"side by side: palitune compare {shlex.quote(str(folder))}")
    if failed:
        told = "; ".join(f"{job.label} ({job.said})" for job in failed)
        complain(f"{len(failed)} of {len(jobs)} jobs failed: {told}")
    return FAILED if failed else 0


def _write_sweep(folder: Path, recipe_name: str, jobs: Sequence[Job]) -> None:
    """Write down what became of every job so far."""
    told = [
        {
            "folder": Path(job.run.output_dir).name,
            "label": job.label,
            "state": job.state,
            "said": job.said,
            "overrides": list(job.overrides),
        }
        for job in jobs
    ]
    text = json.dumps({"recipe": recipe_name, "jobs": told}, indent=2, ensure_ascii=False)
    (folder / SWEEP_FILE).write_text(text + "\n", encoding="utf-8")


def _watched(command: Sequence[str]) -> tuple[int, str]:
    """Run a command, its stderr shown as it comes; return exit code and stderr's last line."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    tail = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:
            while chunk := os.read(process.stderr.fileno(), 4096):
                text = decoder.decode(chunk)
                print(text, end="", file=sys.stderr, flush=True)
                tail = (tail + text)[-10_000:]
        except preemption.Preempted:
            process.terminate()  # and wait until it has saved what it has
            raise
    return process.returncode, next(filter(None, map(str.strip, tail.splitlines()[::-1])), "")


def _reason(code: int, last: str) -> str:
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return last.removeprefix("palitune: ") or f"exit code {code}"


def _start_logging() -> None:
    """Show what Palitune says, on the main process, and only warnings of the libraries."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    level = logging.INFO if processes.is_first() else logging.WARNING
    logging.getLogger("palitune").setLevel(level)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
