"""Jobs as processes on this machine: in parallel, with reserved GPUs, and terminated together."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from palitune.config.runners import RunnerConfig
from palitune.errors import PREEMPTED
from palitune.sweeps.local_runner import LocalRunner

REPORTS_GPUS = """
import os, sys
print("seen", os.environ["CUDA_VISIBLE_DEVICES"])
print("first line\\nno box", file=sys.stderr)
sys.exit(3)
"""
WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
print("ready", file=sys.stderr, flush=True)
time.sleep(60)
"""


def test_the_output_of_a_single_job_is_shown_and_its_last_line_returned(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert LocalRunner(RunnerConfig(gpus_per_job=1)).run(
        ["-c", REPORTS_GPUS], [], tmp_path / "log.txt"
    ) == (3, "no box")
    assert capfd.readouterr() == ("seen 0\n", "first line\nno box\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("visible", "seen"), [(None, ["0,1", "2,3"]), ("4,5,7", ["4,5", "7"])])
def test_parallel_jobs_have_separate_gpus_and_log_files(
    visible: str | None, seen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    runner = LocalRunner(RunnerConfig(max_parallel=2, gpus_per_job=2))
    logs = [tmp_path / "logs" / f"{number}.txt" for number in range(2)]
    barrier = threading.Barrier(2)

    def run(log: Path) -> None:
        barrier.wait()
        assert runner.run(["-c", REPORTS_GPUS], [], log) == (3, "no box")

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run, logs))
    outputs = [log.read_text().splitlines() for log in logs]
    assert sorted(line for lines in outputs for line in lines if "seen" in line) == [
        f"seen {gpus}" for gpus in seen
    ]


def test_terminate_ends_running_jobs_and_starts_no_others(tmp_path: Path) -> None:
    runner, log = LocalRunner(RunnerConfig(max_parallel=2)), tmp_path / "log.txt"
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(runner.run, ["-c", WAITS], [], log)
        while not (log.is_file() and "ready" in log.read_text()):
            time.sleep(0.01)
        runner.terminate()
        assert running.result() == (PREEMPTED, "ready")
    assert runner.run(["-c", WAITS], [], log) == (-signal.SIGTERM, "")
