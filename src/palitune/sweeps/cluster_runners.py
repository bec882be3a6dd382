"""Jobs of a sweep on a cluster: SLURM (through submitit) or Ray."""

import contextlib
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palitune.config.runners import RayConfig, SlurmConfig
from palitune.errors import INTERRUPTED, PREEMPTED, DataError
from palitune.sweeps.local_runner import spawn, stream_stderr
from palitune.sweeps.runner import Outcome

_SIGNAL_DELAY_S = 120
"""Seconds between the signal before the time limit of a job and the limit."""


class SubmititTask:
    """A command that submitit runs in each process of a job."""

    def __init__(self, command: Sequence[str], resume_args: Sequence[str]) -> None:
        self.command, self.resume_args = list(command), list(resume_args)
        self._process: Any = None

    def __call__(self) -> Outcome:
        import submitit

        if submitit.JobEnvironment().num_tasks > 1:
            environment = submitit.helpers.TorchDistributedEnvironment()
            environment.export(set_cuda_visible_devices=False, overwrite=True)
        # submitit handles the scheduler's signals; `checkpoint` passes them on to the run.
        self._process = spawn(self.command, detached=True)
        try:
            return stream_stderr(self._process, sys.stderr)
        except BaseException:
            self._process.terminate()
            raise

    def checkpoint(self) -> Any:
        """Make the run save a checkpoint, and return the task to requeue (called by submitit)."""
        from submitit.helpers import DelayedSubmission

        self._process.terminate()
        self._process.wait()
        return DelayedSubmission(SubmititTask([*self.command, *self.resume_args], []))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None}


class SlurmRunner:
    """Queues jobs with submitit and waits for them."""

    def __init__(self, settings: SlurmConfig, log_dir: Path) -> None:
        try:
            import submitit
        except ModuleNotFoundError as error:
            raise DataError("runner=slurm needs submitit: pip install 'palitune[slurm]'") from error
        logging.getLogger("submitit").setLevel(logging.WARNING)
        try:
            self._executor = submitit.AutoExecutor(log_dir, cluster=settings.cluster)
        except RuntimeError as error:
            raise DataError(
                f"runner=slurm: {error}; start the sweep on a machine with sbatch and srun, or set "
                "runner=local"
            ) from error
        options = {
            "partition": settings.partition, "account": settings.account,
            "setup": settings.setup or None,
            "signal_delay_s": _SIGNAL_DELAY_S,
            "additional_parameters": settings.additional_parameters or None,
        }  # fmt: skip
        self._executor.update_parameters(
            name="palitune", timeout_min=settings.timeout_min, nodes=settings.nodes,
            tasks_per_node=settings.tasks_per_node, cpus_per_task=settings.cpus_per_task,
            gpus_per_node=settings.gpus_per_job,
            **({"mem_gb": settings.mem_gb} if settings.mem_gb else {}),
            **{f"slurm_{name}": value for name, value in options.items() if value is not None},
        )  # fmt: skip
        self._lock = threading.Lock()
        self._jobs: list[Any] = []
        self._terminated = False

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        outcome: Outcome = (PREEMPTED, "")
        while outcome[0] == PREEMPTED:
            with self._lock:
                if self._terminated:
                    return INTERRUPTED, ""
                job = self._executor.submit(SubmititTask(command, resume_args))
                self._jobs.append(job)
            outcome = self._wait_for_outcome(job)
            command = [*command, *resume_args]
        return outcome

    def terminate(self) -> None:
        with self._lock:
            self._terminated = True
            for job in self._jobs:
                if not job.done():
                    job.cancel()

    def _wait_for_outcome(self, job: Any) -> Outcome:
        """Return the outcome of a job; of several processes, a failed one if there is any."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            outcomes: list[Outcome] = job.results()
        except (FailedJobError, UncompletedJobError) as error:
            last_line = str(error).strip().splitlines()[-1]
            return 1, f"job {job.job_id} has no result: {last_line}; see {job.paths.stderr}"
        return max(outcomes, key=lambda outcome: outcome[0] != 0)


class RayRunner:
    """Runs jobs as Ray tasks."""

    def __init__(self, settings: RayConfig) -> None:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise DataError("runner=ray needs Ray: pip install 'palitune[ray]'") from error
        self._ray: Any = ray
        ray.init(settings.address, log_to_driver=False, configure_logging=False)
        as_remote_task = ray.remote(
            num_cpus=settings.cpus_per_task, num_gpus=settings.gpus_per_job, max_retries=0
        )
        self._remote_task = as_remote_task(_run_in_folder)
        self._running_refs: set[Any] = set()

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        ref = self._remote_task.remote(list(command), str(Path.cwd()))
        self._running_refs.add(ref)
        try:
            outcome: Outcome = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            return 1, str(error).strip().splitlines()[-1]
        finally:
            self._running_refs.discard(ref)
        return outcome

    def terminate(self) -> None:
        for ref in list(self._running_refs):
            self._ray.cancel(ref, force=True)


def _run_in_folder(command: Sequence[str], folder: str) -> Outcome:
    """Run a command in the working directory of the sweep; executed in a Ray worker."""
    with contextlib.chdir(folder):
        return stream_stderr(spawn(command), sys.stderr)
