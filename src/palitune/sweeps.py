"""Several jobs by one command: every combination of values, or those that a search chooses.

A sweep writes one folder: a folder per job, and `sweep.json`, which says what became of each job.
"""

import json
import shlex
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from palitune import config, preemption
from palitune.commands import Request
from palitune.examples import DataError
from palitune.jobs import Jobs, Outcome
from palitune.mistakes import FAILED, INTERRUPTED, PREEMPTED, complain
from palitune.report.labels import folder_names, told_apart
from palitune.runs import Command, Finetune, Run
from palitune.search import Domain, Trials

SWEEP_FILE = "sweep.json"


@dataclass(kw_only=True)
class Job:
    """One run of a sweep."""

    overrides: Sequence[str]
    label: str
    """What sets it apart, e.g. `adapter.rank=8`."""
    folder: Path
    state: str = "waiting"
    """waiting | done | failed | interrupted."""
    said: str = ""
    """The sentence that it failed with."""


class Sweep(Protocol):
    """Where jobs come from, and what is done where they begin and end."""

    folder: Path
    count: int

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs; each is asked for where there is room for it."""

    def note(self, job: Job) -> None:
        """Take note of a job whose state has changed. Raises DataError where nothing can go on."""

    def conclude(self) -> int:
        """Say what came of it and return the exit code."""


def launch(recipe_name: str, request: Request, told: Sequence[str], program: Sequence[str]) -> int:
    """Run the jobs that a command line asks for and return the exit code.

    Raises ConfigError before anything is written where the configuration of a job is not valid.
    """
    single, swept = config.domains(told, request.config_dir)
    first = compose(recipe_name, request, [*single, *(ends(swept)[0])])
    sweep: Sweep
    if isinstance(first, Run) and isinstance(first.search, Trials):
        from palitune.searching import Searching

        sweep = Searching(recipe_name, request, single, swept, first)
    else:
        sweep = Grid(recipe_name, request, told)
    if request.show:
        shown = [first] if not isinstance(sweep, Grid) else sweep.runs
        print("---\n".join(map(config.to_yaml, shown)), end="")
        return 0
    again = ["training.resume=auto"] if isinstance(first, Finetune) else []
    at = first.jobs if isinstance(first, Run) else Jobs()
    try:
        with preemption.heard():
            return _perform(sweep, at, [*program, *request.places], again)
    except KeyboardInterrupt:
        return INTERRUPTED
    except preemption.Preempted:
        return PREEMPTED
    except DataError as problem:
        complain(str(problem))
        return FAILED


def compose(recipe_name: str, request: Request, overrides: Sequence[str]) -> Command:
    return config.compose(recipe_name, overrides, request.config_dir, request.run_folder)


def ends(domains: dict[str, Domain]) -> tuple[list[str], list[str]]:
    """Return the overrides that give each setting its first value, and its last one."""
    pairs = [(key, *domain.ends()) for key, domain in domains.items()]
    return [f"{key}={low}" for key, low, _ in pairs], [f"{key}={high}" for key, _, high in pairs]


class Grid:
    """Every combination of the values that are given."""

    def __init__(self, recipe_name: str, request: Request, told: Sequence[str]) -> None:
        self.recipe_name = recipe_name
        self.all: list[Job] = []
        self.runs: list[Command] = []
        combined = list(config.combinations(told, request.config_dir))
        names = _folder_names([swept for _, swept in combined])
        for (overrides, swept), name in zip(combined, names, strict=True):
            run = compose(recipe_name, request, overrides)
            self.folder = self.all[0].folder.parent if self.all else Path(run.output_dir)
            run.output_dir = str(self.folder / name)
            told = [*overrides, f"output_dir={config.quoted(run.output_dir)}"]
            job = Job(overrides=told, label=",".join(swept), folder=self.folder / name)
            self.all.append(job)
            self.runs.append(run)
        self.count = len(self.all)

    def jobs(self) -> Iterator[Job]:
        return iter(self.all)

    def note(self, job: Job) -> None:
        write(self.folder, self.recipe_name, self.all)

    def conclude(self) -> int:
        return conclude(self.folder, self.all)


def _folder_names(swept: Sequence[Sequence[str]]) -> list[str]:
    """Name the jobs by number and swept values: `0_adapter.rank=8`, paths by what differs."""
    columns = []
    for column in zip(*swept, strict=True):
        keys = [text.partition("=")[0] for text in column]
        values = told_apart([text.partition("=")[2].strip("'\"") for text in column])
        columns.append([f"{key}={value}" for key, value in zip(keys, values, strict=True)])
    return folder_names([",".join(texts) for texts in zip(*columns, strict=True)] or [""])


def _perform(sweep: Sweep, at: Jobs, command: Sequence[str], again: Sequence[str]) -> int:
    """Run the jobs, `at.at_once` at a time; a job that fails ends no other."""
    runner = at.runner(sweep.folder)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    jobs, running = sweep.jobs(), dict[Future[Outcome], Job]()
    with ThreadPoolExecutor(at.at_once) as threads:
        try:
            begun = 0
            while True:
                while len(running) < at.at_once and (job := next(jobs, None)):
                    begun += 1
                    print(f"job {begun} of {sweep.count}: {job.label} -> {job.folder}", flush=True)
                    job.state = "interrupted"
                    sweep.note(job)
                    log = sweep.folder / "logs" / f"{job.folder.name}.txt"
                    told = [*command, *job.overrides]
                    running[threads.submit(runner.run, told, again, log)] = job
                if not running:
                    return sweep.conclude()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    _end(sweep, running.pop(future), future.result())
        except BaseException:
            runner.end()
            raise


def _end(sweep: Sweep, job: Job, outcome: Outcome) -> None:
    """Take note of what became of a job; one that was told to end ends the sweep."""
    code, last = outcome
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code == PREEMPTED:
        raise preemption.Preempted
    job.state, job.said = ("done", "") if code == 0 else ("failed", _reason(code, last))
    sweep.note(job)


def _reason(code: int, last: str) -> str:
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return last.removeprefix("palitune: ") or f"exit code {code}"


def write(folder: Path, recipe_name: str, jobs: Sequence[Job]) -> None:
    """Write down what became of every job so far."""
    told = [
        {
            "folder": job.folder.name,
            "label": job.label,
            "state": job.state,
            "said": job.said,
            "overrides": list(job.overrides),
        }
        for job in jobs
    ]
    text = json.dumps({"recipe": recipe_name, "jobs": told}, indent=2, ensure_ascii=False)
    (folder / SWEEP_FILE).write_text(text + "\n", encoding="utf-8")


def conclude(folder: Path, jobs: Sequence[Job]) -> int:
    """Say which jobs were done, how to compare them, and what the others failed with."""
    failed = [job for job in jobs if job.state == "failed"]
    print(f"sweep: {len(jobs) - len(failed)} of {len(jobs)} jobs done, in {folder}")
    if any((job.folder / "metrics.json").is_file() for job in jobs):
        print(f"side by side: palitune compare {shlex.quote(str(folder))}")
    if failed:
        told = "; ".join(f"{job.label} ({job.said})" for job in failed)
        complain(f"{len(failed)} of {len(jobs)} jobs failed: {told}")
    return FAILED if failed else 0
