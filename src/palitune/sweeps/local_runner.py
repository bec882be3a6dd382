"""Jobs of a sweep as processes on this machine."""

import codecs
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TextIO

from palitune.config.runners import RunnerConfig
from palitune.sweeps.runner import Outcome


class LocalRunner:
    """Runs each job in a process of its own, which frees all memory at its end."""

    def __init__(self, settings: RunnerConfig) -> None:
        self._streams_to_stderr = settings.max_parallel == 1
        self._gpu_slots: SimpleQueue[Mapping[str, str]] = SimpleQueue()
        for slot in range(settings.max_parallel):
            self._gpu_slots.put(_visible_gpus(slot, settings.gpus_per_job))
        self._lock = threading.Lock()
        self._running_processes: set[subprocess.Popen[bytes]] = set()
        self._terminated = False

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        environment = self._gpu_slots.get()
        try:
            if self._streams_to_stderr:
                return self._run_process(command, environment, None)
            log_file.parent.mkdir(parents=True, exist_ok=True)
            with log_file.open("a", encoding="utf-8") as file:
                return self._run_process(command, environment, file)
        finally:
            self._gpu_slots.put(environment)

    def terminate(self) -> None:
        with self._lock:
            self._terminated = True
            for process in self._running_processes:
                process.terminate()  # on SIGTERM a run saves a checkpoint

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
    """Return the environment that reserves GPUs for one slot, out of those this process sees."""
    if count == 0:
        return {}
    indices = range(slot * count, (slot + 1) * count)
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        names = visible.split(",")
        return {"CUDA_VISIBLE_DEVICES": ",".join(names[i] for i in indices if i < len(names))}
    return {"CUDA_VISIBLE_DEVICES": ",".join(map(str, indices))}


def spawn(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    log_file: TextIO | None = None,
    *,
    detached: bool = False,
) -> "subprocess.Popen[bytes]":
    """Start a command with the Python interpreter.

    Args:
        command: Arguments of the interpreter.
        environment: Environment variables to add.
        log_file: File for stdout; None: the stdout of this process.
        detached: Start a new session, which does not receive the signals of this process group.
    """
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=log_file, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})},
        start_new_session=detached,
    )  # fmt: skip


def stream_stderr(process: "subprocess.Popen[bytes]", output: TextIO) -> Outcome:
    """Copy a process's stderr to a stream until the process ends."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    tail = ""
    assert process.stderr is not None
    with process:
        while chunk := os.read(process.stderr.fileno(), 4096):
            text = decoder.decode(chunk)
            print(text, end="", file=output, flush=True)
            tail = (tail + text)[-10_000:]
    return process.returncode, next(filter(None, map(str.strip, tail.splitlines()[::-1])), "")
