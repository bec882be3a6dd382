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

from palitune import config
from palitune.cli.help import CliArguments
from palitune.config.recipes import Finetune, ModelRecipeConfig, RecipeConfig
from palitune.config.runners import Outcome, RunnerConfig
from palitune.config.search_space import Domain, OptunaSearch
from palitune.distributed import preemption
from palitune.errors import FAILED, INTERRUPTED, PREEMPTED, DataError, print_error
from palitune.report.naming import folder_names, shorten_to_differences

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
    error: str = ""
    """The sentence that it failed with."""


class Sweep(Protocol):
    """Where jobs come from, and what is done where they begin and end."""

    folder: Path
    num_jobs: int

    def jobs(self) -> Iterator[Job]:
        """Yield the jobs; each is asked for where there is room for it."""

    def on_job_update(self, job: Job) -> None:
        """Take note of a job whose state has changed. Raises DataError where nothing can go on."""

    def finish(self) -> int:
        """Say what came of it and return the exit code."""


def launch_sweep(
    recipe_name: str, cli_args: CliArguments, overrides: Sequence[str], python_args: Sequence[str]
) -> int:
    """Run the jobs that a command line asks for and return the exit code.

    Raises ConfigError before anything is written where the configuration of a job is not valid.
    """
    single, swept = config.parse_search_space(overrides, cli_args.config_dir)
    first = compose_job(recipe_name, cli_args, [*single, *(bound_overrides(swept)[0])])
    sweep: Sweep
    if isinstance(first, ModelRecipeConfig) and isinstance(first.search, OptunaSearch):
        from palitune.sweeps.optuna_search import OptunaSweep

        sweep = OptunaSweep(recipe_name, cli_args, single, swept, first)
    else:
        sweep = Grid(recipe_name, cli_args, overrides)
    if cli_args.show_config:
        shown = [first] if not isinstance(sweep, Grid) else sweep.run_configs
        print("---\n".join(map(config.to_yaml, shown)), end="")
        return 0
    again = ["training.resume=auto"] if isinstance(first, Finetune) else []
    at = first.runner if isinstance(first, ModelRecipeConfig) else RunnerConfig()
    try:
        with preemption.handle_sigterm():
            return _run_jobs(sweep, at, [*python_args, *cli_args.config_flags], again)
    except KeyboardInterrupt:
        return INTERRUPTED
    except preemption.Preempted:
        return PREEMPTED
    except DataError as problem:
        print_error(str(problem))
        return FAILED


def compose_job(recipe_name: str, cli_args: CliArguments, overrides: Sequence[str]) -> RecipeConfig:
    return config.compose(recipe_name, overrides, cli_args.config_dir, cli_args.run_folder)


def bound_overrides(domains: dict[str, Domain]) -> tuple[list[str], list[str]]:
    """Return the overrides that give each setting its first value, and its last one."""
    pairs = [(key, *domain.bounds()) for key, domain in domains.items()]
    return [f"{key}={low}" for key, low, _ in pairs], [f"{key}={high}" for key, _, high in pairs]


class Grid:
    """Every combination of the values that are given."""

    def __init__(self, recipe_name: str, cli_args: CliArguments, told: Sequence[str]) -> None:
        self.recipe_name = recipe_name
        self.all_jobs: list[Job] = []
        self.run_configs: list[RecipeConfig] = []
        combined = list(config.expand_sweep(told, cli_args.config_dir))
        names = _job_folder_names([swept for _, swept in combined])
        for (overrides, swept), name in zip(combined, names, strict=True):
            run = compose_job(recipe_name, cli_args, overrides)
            self.folder = self.all_jobs[0].folder.parent if self.all_jobs else Path(run.output_dir)
            run.output_dir = str(self.folder / name)
            told = [*overrides, f"output_dir={config.quote_value(run.output_dir)}"]
            job = Job(overrides=told, label=",".join(swept), folder=self.folder / name)
            self.all_jobs.append(job)
            self.run_configs.append(run)
        self.num_jobs = len(self.all_jobs)

    def jobs(self) -> Iterator[Job]:
        return iter(self.all_jobs)

    def on_job_update(self, job: Job) -> None:
        write_sweep_file(self.folder, self.recipe_name, self.all_jobs)

    def finish(self) -> int:
        return print_summary(self.folder, self.all_jobs)


def _job_folder_names(swept: Sequence[Sequence[str]]) -> list[str]:
    """Name the jobs by number and swept values: `0_adapter.rank=8`, paths by what differs."""
    columns = []
    for column in zip(*swept, strict=True):
        keys = [text.partition("=")[0] for text in column]
        values = shorten_to_differences([text.partition("=")[2].strip("'\"") for text in column])
        columns.append([f"{key}={value}" for key, value in zip(keys, values, strict=True)])
    return folder_names([",".join(texts) for texts in zip(*columns, strict=True)] or [""])


def _run_jobs(
    sweep: Sweep, runner_config: RunnerConfig, command: Sequence[str], resume_args: Sequence[str]
) -> int:
    """Run the jobs, `at.max_parallel` at a time; a job that fails ends no other."""
    runner = runner_config.runner(sweep.folder)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    jobs, running = sweep.jobs(), dict[Future[Outcome], Job]()
    with ThreadPoolExecutor(runner_config.max_parallel) as threads:
        try:
            begun = 0
            while True:
                while len(running) < runner_config.max_parallel and (job := next(jobs, None)):
                    begun += 1
                    print(
                        f"job {begun} of {sweep.num_jobs}: {job.label} -> {job.folder}", flush=True
                    )
                    job.state = "interrupted"
                    sweep.on_job_update(job)
                    log = sweep.folder / "logs" / f"{job.folder.name}.txt"
                    told = [*command, *job.overrides]
                    running[threads.submit(runner.run, told, resume_args, log)] = job
                if not running:
                    return sweep.finish()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    _record_outcome(sweep, running.pop(future), future.result())
        except BaseException:
            runner.terminate()
            raise


def _record_outcome(sweep: Sweep, job: Job, outcome: Outcome) -> None:
    """Take note of what became of a job; one that was told to end ends the sweep."""
    code, last = outcome
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code == PREEMPTED:
        raise preemption.Preempted
    job.state, job.error = ("done", "") if code == 0 else ("failed", _failure_reason(code, last))
    sweep.on_job_update(job)


def _failure_reason(exit_code: int, last_line: str) -> str:
    if exit_code < 0:
        return f"ended by {signal.Signals(-exit_code).name}"
    return last_line.removeprefix("palitune: ") or f"exit code {exit_code}"


def write_sweep_file(folder: Path, recipe_name: str, jobs: Sequence[Job]) -> None:
    """Write down what became of every job so far."""
    told = [
        {
            "folder": job.folder.name,
            "label": job.label,
            "state": job.state,
            "error": job.error,
            "overrides": list(job.overrides),
        }
        for job in jobs
    ]
    text = json.dumps({"recipe": recipe_name, "jobs": told}, indent=2, ensure_ascii=False)
    (folder / SWEEP_FILE).write_text(text + "\n", encoding="utf-8")


def print_summary(folder: Path, jobs: Sequence[Job]) -> int:
    """Say which jobs were done, how to compare them, and what the others failed with."""
    failed = [job for job in jobs if job.state == "failed"]
    print(f"sweep: {len(jobs) - len(failed)} of {len(jobs)} jobs done, in {folder}")
    if any((job.folder / "metrics.json").is_file() for job in jobs):
        print(f"side by side: palitune compare {shlex.quote(str(folder))}")
    if failed:
        told = "; ".join(f"{job.label} ({job.error})" for job in failed)
        print_error(f"{len(failed)} of {len(jobs)} jobs failed: {told}")
    return FAILED if failed else 0
