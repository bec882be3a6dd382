"""Jobs of a sweep on other machines: through submitit on SLURM, or on Ray."""

import contextlib
import logging
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palitune.examples import DataError
from palitune.jobs import Outcome, Ray, Slurm, started, watched
from palitune.mistakes import INTERRUPTED, PREEMPTED

_SECONDS_TO_SAVE = 120
"""Between the signal that a job's time is over and its end."""


class Errand:
    """What runs in a job: a command, as one process of several where the job has several."""

    def __init__(self, command: Sequence[str], again: Sequence[str]) -> None:
        self.command, self.again = list(command), list(again)
        self._process: Any = None

    def __call__(self) -> Outcome:
        import submitit

        if submitit.JobEnvironment().num_tasks > 1:
            together = submitit.helpers.TorchDistributedEnvironment()
            together.export(set_cuda_visible_devices=False, overwrite=True)
        # submitit hears the scheduler's signals, and the run is told by `checkpoint`.
        self._process = started(self.command, apart=True)
        try:
            return watched(self._process, sys.stderr)
        except BaseException:
            self._process.terminate()
            raise

    def checkpoint(self) -> Any:
        """Have the run save its step, and return what is to be queued again."""
        from submitit.helpers import DelayedSubmission

        self._process.terminate()
        self._process.wait()
        return DelayedSubmission(Errand([*self.command, *self.again], []))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None}


class Submitted:
    """Jobs that submitit queues and waits for."""

    def __init__(self, settings: Slurm, logs: Path) -> None:
        try:
            import submitit
        except ModuleNotFoundError as missing:
            raise DataError("jobs=slurm needs submitit: pip install 'palitune[slurm]'") from missing
        logging.getLogger("submitit").setLevel(logging.WARNING)
        try:
            self._executor = submitit.AutoExecutor(logs, cluster=settings.cluster)
        except RuntimeError as mistake:
            raise DataError(
                f"jobs=slurm: {mistake}; run it where sbatch and srun are, or say jobs=here"
            ) from mistake
        options = {
            "partition": settings.partition, "account": settings.account,
            "setup": settings.setup or None,
            "signal_delay_s": _SECONDS_TO_SAVE,
            "additional_parameters": settings.options or None,
        }  # fmt: skip
        self._executor.update_parameters(
            name="palitune", timeout_min=settings.minutes, nodes=settings.nodes,
            tasks_per_node=settings.processes, cpus_per_task=settings.cpus,
            gpus_per_node=settings.gpus,
            **({"mem_gb": settings.memory} if settings.memory else {}),
            **{f"slurm_{name}": value for name, value in options.items() if value is not None},
        )  # fmt: skip
        self._lock = threading.Lock()
        self._jobs: list[Any] = []
        self._over = False

    def run(self, command: Sequence[str], again: Sequence[str], log: Path) -> Outcome:
        outcome: Outcome = (PREEMPTED, "")
        while outcome[0] == PREEMPTED:
            with self._lock:
                if self._over:
                    return INTERRUPTED, ""
                job = self._executor.submit(Errand(command, again))
                self._jobs.append(job)
            outcome = self._wait(job)
            command = [*command, *again]
        return outcome

    def end(self) -> None:
        with self._lock:
            self._over = True
            for job in self._jobs:
                if not job.done():
                    job.cancel()

    def _wait(self, job: Any) -> Outcome:
        """Return the outcome of a job: of several processes, that of one that failed."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            outcomes: list[Outcome] = job.results()
        except (FailedJobError, UncompletedJobError) as lost:
            last = str(lost).strip().splitlines()[-1]
            return 1, f"job {job.job_id} was lost: {last}; see {job.paths.stderr}"
        return max(outcomes, key=lambda outcome: outcome[0] != 0)


class OnRay:
    """Jobs that Ray places."""

    def __init__(self, settings: Ray) -> None:
        try:
            import ray
        except ModuleNotFoundError as missing:
            raise DataError("jobs=ray needs Ray: pip install 'palitune[ray]'") from missing
        self._ray: Any = ray
        ray.init(settings.address, log_to_driver=False, configure_logging=False)
        told = ray.remote(num_cpus=settings.cpus, num_gpus=settings.gpus, max_retries=0)
        self._errand = told(_carried_out)
        self._running: set[Any] = set()

    def run(self, command: Sequence[str], again: Sequence[str], log: Path) -> Outcome:
        place = self._errand.remote(list(command), str(Path.cwd()))
        self._running.add(place)
        try:
            outcome: Outcome = self._ray.get(place)
        except self._ray.exceptions.RayError as lost:
            return 1, str(lost).strip().splitlines()[-1]
        finally:
            self._running.discard(place)
        return outcome

    def end(self) -> None:
        for place in list(self._running):
            self._ray.cancel(place, force=True)


def _carried_out(command: Sequence[str], folder: str) -> Outcome:
    """In a process of Ray's: run a command in the folder that the sweep was started in."""
    with contextlib.chdir(folder):
        return watched(started(command), sys.stderr)
