"""Where the jobs of a sweep run, how many at a time, and what they are given."""

import codecs
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar, Protocol, TextIO

Outcome = tuple[int, str]
"""Exit code of a job, and the last line that it wrote to stderr."""


class Runner(Protocol):
    """Runs jobs; `run` is called in as many threads as there may be jobs at a time."""

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        """Have Python run a command and wait for its end.

        `again` is added to a command that was begun before; what a job says goes to the file `log`
        where it is not shown.
        """

    def terminate(self) -> None:
        """End all jobs that run, and start no other."""


@dataclass(kw_only=True)
class RunnerConfig:
    """On this machine."""

    name: ClassVar[str] = "local"

    max_parallel: int = 1
    """Jobs at a time; what several say goes to `logs` in the folder of the sweep."""
    gpus_per_job: int = 0
    """GPUs that each job has to itself; 0: every job sees all."""

    def __post_init__(self) -> None:
        for name, least in (("max_parallel", 1), ("gpus_per_job", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"runner.{name} must be at least {least}, not {getattr(self, name)}"
                )

    def runner(self, folder: Path) -> Runner:
        """Return what runs the jobs of a sweep. Raises DataError where that cannot be."""
        return LocalRunner(self)


@dataclass(kw_only=True)
class SlurmConfig(RunnerConfig):
    """On a SLURM cluster, through submitit; this process waits for the jobs."""

    name: ClassVar[str] = "slurm"

    max_parallel: int = 8
    """Jobs that are queued or run at a time."""
    gpus_per_job: int = 1
    """GPUs of each node of a job."""
    cluster: str = "slurm"
    """slurm | local (submitit's processes on this machine, to try it)."""
    partition: str | None = None
    account: str | None = None
    timeout_min: int = 1440
    """Time limit of a job; it saves its step two minutes before and is queued again."""
    cpus_per_task: int = 8
    """Cores of each process."""
    mem_gb: int | None = None
    """GiB of each node; null: what the cluster gives."""
    nodes: int = 1
    """Nodes of each job."""
    tasks_per_node: int = 1
    """Processes on each node, which do a job together; as many as GPUs where there are several."""
    setup: list[str] = field(default_factory=list)
    """Shell commands before a job, e.g. `module load cuda`."""
    additional_parameters: dict[str, Any] = field(default_factory=dict)
    """Other options of sbatch by name, e.g. qos."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cluster not in ("slurm", "local"):
            raise ValueError(f"runner.cluster must be slurm or local, not {self.cluster}")
        for name in ("timeout_min", "cpus_per_task", "nodes", "tasks_per_node"):
            if getattr(self, name) < 1:
                raise ValueError(f"runner.{name} must be at least 1, not {getattr(self, name)}")

    def runner(self, folder: Path) -> Runner:
        from palitune.sweeps.cluster_runners import SlurmRunner

        return SlurmRunner(self, folder / "logs")


@dataclass(kw_only=True)
class RayConfig(RunnerConfig):
    """On a Ray cluster."""

    name: ClassVar[str] = "ray"

    max_parallel: int = 8
    """Jobs that wait or run at a time."""
    gpus_per_job: int = 1
    """GPUs of each job."""
    cpus_per_task: int = 8
    """Cores of each job."""
    address: str | None = None
    """Of the cluster, e.g. auto; null: a Ray of one machine, started for the sweep."""

    def runner(self, folder: Path) -> Runner:
        from palitune.sweeps.cluster_runners import RayRunner

        return RayRunner(self)


RUNNERS: dict[str, type[RunnerConfig]] = {
    kind.name: kind for kind in (RunnerConfig, SlurmConfig, RayConfig)
}


class LocalRunner:
    """Every job is a process: its memory is freed, its end ends no other job."""

    def __init__(self, settings: RunnerConfig) -> None:
        self._streams_to_stderr = settings.max_parallel == 1
        self._gpu_slots: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for place in range(settings.max_parallel):
            self._gpu_slots.put(_visible_gpus(place, settings.gpus_per_job))
        self._lock = threading.Lock()
        self._running_processes: set[subprocess.Popen[bytes]] = set()
        self._terminated = False

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        place = self._gpu_slots.get()
        try:
            if self._streams_to_stderr:
                return self._run_process(command, place, None)
            log_file.parent.mkdir(parents=True, exist_ok=True)
            with log_file.open("a", encoding="utf-8") as file:
                return self._run_process(command, place, file)
        finally:
            self._gpu_slots.put(place)

    def terminate(self) -> None:
        with self._lock:
            self._terminated = True
            for process in self._running_processes:
                process.terminate()  # it saves what it has

    def _run_process(
        self, command: Sequence[str], environment: Mapping[str, str], log_file: TextIO | None
    ) -> Outcome:
        with self._lock:
            if self._terminated:
                return -signal.SIGTERM, ""
            process = spawn(command, environment, log_file)
            self._running_processes.add(process)
        try:
            return stream_stderr(process, log_file or sys.stderr)
        finally:
            with self._lock:
                self._running_processes.discard(process)


def _visible_gpus(slot: int, count: int) -> dict[str, str]:
    """Say which GPUs a job may see: those of its place, out of those that this process may see."""
    if count == 0:
        return {}
    wanted = range(slot * count, (slot + 1) * count)
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        names = visible.split(",")
        return {"CUDA_VISIBLE_DEVICES": ",".join(names[n] for n in wanted if n < len(names))}
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, wanted))}


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    log_file: TextIO | None = None,
    *,
    detached: bool = False,
) -> "subprocess.Popen[bytes]":
    """Have Python run a command; `apart` from the signals that this process's group is sent."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=log_file, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})},
        start_new_session=detached,
    )  # fmt: skip


def stream_stderr(process: "subprocess.Popen[bytes]", output: TextIO) -> Outcome:
    """Write a process's stderr as it comes, until it ends; return exit code and last line."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    tail = ""
    assert process.stderr is not None
    with process:
        while chunk := os.read(process.stderr.fileno(), 4096):
            text = decoder.decode(chunk)
            print(text, end="", file=output, flush=True)
            tail = (tail + text)[-10_000:]
    return process.returncode, next(filter(None, map(str.strip, tail.splitlines()[::-1])), "")
