"""Run a sweep: choose grid or search, and the runner of its jobs."""

import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from palitune.config.overrides import parse_search_space
from palitune.config.recipes import Finetune, ModelRecipeConfig
from palitune.config.runners import RayConfig, RunnerConfig, SlurmConfig
from palitune.config.search_space import OptunaSearch
from palitune.config.text_settings import quote_text
from palitune.config.to_yaml import to_yaml
from palitune.distributed import preemption
from palitune.errors import FAILED, INTERRUPTED, PREEMPTED, DataError, print_error
from palitune.sweeps.grid import Grid
from palitune.sweeps.local_runner import LocalRunner
from palitune.sweeps.runner import Outcome, Runner
from palitune.sweeps.sweep import Job, Sweep, SweepRequest, bound_overrides


def launch_sweep(request: SweepRequest, *, show_config: bool) -> int:
    """Run the jobs of a sweep and return the exit code; `show_config` prints them instead.

    Raises:
        ConfigError: The configuration of a job is invalid; nothing has been written.
    """
    overrides = [quote_text(text, request.schema, sweep=True) for text in request.overrides]
    request = replace(request, overrides=overrides)
    single, domains = parse_search_space(request.overrides, request.config_dir)
    first = [*single, *bound_overrides(domains)[0]]
    if "data.path" in domains:  # some of the folders may be of no known format
        first = request.first_recognized()
    first_run = request.compose(first)
    sweep: Sweep
    if isinstance(first_run, ModelRecipeConfig) and isinstance(first_run.search, OptunaSearch):
        from palitune.sweeps.optuna_search import OptunaSweep

        sweep = OptunaSweep(request, single, domains, first_run)
    else:
        sweep = Grid(request, first_run)
    if show_config:
        runs = sweep.run_configs if isinstance(sweep, Grid) else [first_run]
        print("---\n".join(map(to_yaml, runs)), end="")
        return 0
    resume_args = ["training.resume=auto"] if isinstance(first_run, Finetune) else []
    settings = first_run.runner if isinstance(first_run, ModelRecipeConfig) else RunnerConfig()
    try:
        with preemption.handle_sigterm():
            runner = make_runner(settings, sweep.folder)
            return _run_jobs(sweep, runner, settings.max_parallel, request.command, resume_args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except preemption.Preempted:
        return PREEMPTED
    except DataError as error:
        print_error(str(error))
        return FAILED


def make_runner(settings: RunnerConfig, folder: Path) -> Runner:
    """Return the runner for its settings. Raises DataError if it is not available here."""
    from palitune.sweeps.cluster_runners import RayRunner, SlurmRunner

    if isinstance(settings, SlurmConfig):
        return SlurmRunner(settings, folder / "logs")
    if isinstance(settings, RayConfig):
        return RayRunner(settings)
    return LocalRunner(settings)


def _run_jobs(
    sweep: Sweep,
    runner: Runner,
    max_parallel: int,
    command: Sequence[str],
    resume_args: Sequence[str],
) -> int:
    """Run the jobs of a sweep, `max_parallel` at a time; a failed job does not stop the others."""
    sweep.folder.mkdir(parents=True, exist_ok=True)
    jobs, running = enumerate(sweep.jobs(), start=1), dict[Future[Outcome], Job]()
    with ThreadPoolExecutor(max_parallel) as threads:
        try:
            while True:
                while len(running) < max_parallel and (numbered_job := next(jobs, None)):
                    number, job = numbered_job
                    print(
                        f"job {number} of {sweep.num_jobs}: {job.label} -> {job.folder}", flush=True
                    )
                    job.state = "interrupted"  # until its outcome is known
                    sweep.on_job_update(job)
                    log_file = sweep.folder / "logs" / f"{job.folder.name}.txt"
                    job_command = [*command, *job.overrides, *job.arguments]
                    running[threads.submit(runner.run, job_command, resume_args, log_file)] = job
                if not running:
                    return sweep.finish()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    _record_outcome(sweep, running.pop(future), future.result())
        except BaseException:
            runner.terminate()
            raise


def _record_outcome(sweep: Sweep, job: Job, outcome: Outcome) -> None:
    """Record the outcome of a job; an interrupted or preempted job ends the sweep."""
    exit_code, last_line = outcome
    if exit_code == INTERRUPTED:
        raise KeyboardInterrupt
    if exit_code == PREEMPTED:
        raise preemption.Preempted
    job.state, job.error = "done", ""
    if exit_code != 0:
        job.state, job.error = "failed", _failure_reason(exit_code, last_line)
    sweep.on_job_update(job)


def _failure_reason(exit_code: int, last_line: str) -> str:
    if exit_code < 0:
        return f"ended by {signal.Signals(-exit_code).name}"
    return last_line.removeprefix("palitune: ") or f"exit code {exit_code}"
