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

    def run(self, command: Sequence[str], again: Sequence[str], log: Path) -> Outcome:
        """Have Python run a command and wait for its end.

        `again` is added to a command that was begun before; what a job says goes to the file `log`
        where it is not shown.
        """

    def end(self) -> None:
        """End all jobs that run, and start no other."""


@dataclass(kw_only=True)
class Jobs:
    """On this machine."""

    name: ClassVar[str] = "here"

    at_once: int = 1
    """Jobs at a time; what several say goes to `logs` in the folder of the sweep."""
    gpus: int = 0
    """GPUs that each job has to itself; 0: every job sees all."""

    def __post_init__(self) -> None:
        for name, least in (("at_once", 1), ("gpus", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"jobs.{name} must be at least {least}, not {getattr(self, name)}")

    def runner(self, folder: Path) -> Runner:
        """Return what runs the jobs of a sweep. Raises DataError where that cannot be."""
        return Here(self)


@dataclass(kw_only=True)
class Slurm(Jobs):
    """On a SLURM cluster, through submitit; this process waits for the jobs."""

    name: ClassVar[str] = "slurm"

    at_once: int = 8
    """Jobs that are queued or run at a time."""
    gpus: int = 1
    """GPUs of each node of a job."""
    cluster: str = "slurm"
    """slurm | local (submitit's processes on this machine, to try it)."""
    partition: str | None = None
    account: str | None = None
    minutes: int = 1440
    """Time limit of a job; it saves its step two minutes before and is queued again."""
    cpus: int = 8
    """Cores of each process."""
    memory: int | None = None
    """GiB of each node; null: what the cluster gives."""
    nodes: int = 1
    """Nodes of each job."""
    processes: int = 1
    """Processes on each node, which do a job together; as many as GPUs where there are several."""
    setup: list[str] = field(default_factory=list)
    """Shell commands before a job, e.g. `module load cuda`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Other options of sbatch by name, e.g. qos."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cluster not in ("slurm", "local"):
            raise ValueError(f"jobs.cluster must be slurm or local, not {self.cluster}")
        for name in ("minutes", "cpus", "nodes", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"jobs.{name} must be at least 1, not {getattr(self, name)}")

    def runner(self, folder: Path) -> Runner:
        from palitune.clusters import Submitted

        return Submitted(self, folder / "logs")


@dataclass(kw_only=True)
class Ray(Jobs):
    """On a Ray cluster."""

    name: ClassVar[str] = "ray"

    at_once: int = 8
    """Jobs that wait or run at a time."""
    gpus: int = 1
    """GPUs of each job."""
    cpus: int = 8
    """Cores of each job."""
    address: str | None = None
    """Of the cluster, e.g. auto; null: a Ray of one machine, started for the sweep."""

    def runner(self, folder: Path) -> Runner:
        from palitune.clusters import OnRay

        return OnRay(self)


JOBS: dict[str, type[Jobs]] = {kind.name: kind for kind in (Jobs, Slurm, Ray)}


class Here:
    """Every job is a process: its memory is freed, its end ends no other job."""

    def __init__(self, settings: Jobs) -> None:
        self._shown = settings.at_once == 1
        self._places: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for place in range(settings.at_once):
            self._places.put(_gpus_of(place, settings.gpus))
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._over = False

    def run(self, command: Sequence[str], again: Sequence[str], log: Path) -> Outcome:
        place = self._places.get()
        try:
            if self._shown:
                return self._watch(command, place, None)
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a", encoding="utf-8") as file:
                return self._watch(command, place, file)
        finally:
            self._places.put(place)

    def end(self) -> None:
        with self._lock:
            self._over = True
            for process in self._running:
                process.terminate()  # it saves what it has

    def _watch(
        self, command: Sequence[str], environment: Mapping[str, str], log: TextIO | None
    ) -> Outcome:
        with self._lock:
            if self._over:
                return -signal.SIGTERM, ""
            process = started(command, environment, log)
            self._running.add(process)
        try:
            return watched(process, log or sys.stderr)
        finally:
            with self._lock:
                self._running.discard(process)


def _gpus_of(place: int, count: int) -> dict[str, str]:
    """Say which GPUs a job may see: those of its place, out of those that this process may see."""
    if count == 0:
        return {}
    wanted = range(place * count, (place + 1) * count)
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        names = visible.split(",")
        return {"CUDA_VISIBLE_DEVICES": ",".join(names[n] for n in wanted if n < len(names))}
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, wanted))}


def started(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    log: TextIO | None = None,
    *,
    apart: bool = False,
) -> "subprocess.Popen[bytes]":
    """Have Python run a command; `apart` from the signals that this process's group is sent."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=log, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})},
        start_new_session=apart,
    )  # fmt: skip


def watched(process: "subprocess.Popen[bytes]", shown: TextIO) -> Outcome:
    """Write a process's stderr as it comes, until it ends; return exit code and last line."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    tail = ""
    assert process.stderr is not None
    with process:
        while chunk := os.read(process.stderr.fileno(), 4096):
            text = decoder.decode(chunk)
            print(text, end="", file=shown, flush=True)
            tail = (tail + text)[-10_000:]
    return process.returncode, next(filter(None, map(str.strip, tail.splitlines()[::-1])), "")
