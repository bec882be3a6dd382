"""Jobs on this machine: side by side, each on its own GPUs, and ended together."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from palitune.config.runners import LocalRunner, RayConfig, RunnerConfig, SlurmConfig
from palitune.errors import PREEMPTED

TELLS = """
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


def test_a_job_alone_is_shown_and_its_last_line_is_known(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert LocalRunner(RunnerConfig(gpus_per_job=1)).run(
        ["-c", TELLS], [], tmp_path / "log.txt"
    ) == (3, "no box")
    assert capfd.readouterr() == ("seen 0\n", "first line\nno box\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("visible", "seen"), [(None, ["0,1", "2,3"]), ("4,5,7", ["4,5", "7"])])
def test_jobs_side_by_side_have_gpus_and_logs_of_their_own(
    visible: str | None, seen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    runner = LocalRunner(RunnerConfig(max_parallel=2, gpus_per_job=2))
    logs = [tmp_path / "logs" / f"{number}.txt" for number in range(2)]
    both = threading.Barrier(2)

    def run(log: Path) -> None:
        both.wait()
        assert runner.run(["-c", TELLS], [], log) == (3, "no box")

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run, logs))
    told = [log.read_text().splitlines() for log in logs]
    assert sorted(line for lines in told for line in lines if "seen" in line) == [
        f"seen {gpus}" for gpus in seen
    ]


def test_jobs_that_run_are_told_to_end_and_no_other_begins(tmp_path: Path) -> None:
    runner, log = LocalRunner(RunnerConfig(max_parallel=2)), tmp_path / "log.txt"
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(runner.run, ["-c", WAITS], [], log)
        while not (log.is_file() and "ready" in log.read_text()):
            time.sleep(0.01)
        runner.terminate()
        assert running.result() == (PREEMPTED, "ready")
    assert runner.run(["-c", WAITS], [], log) == (-signal.SIGTERM, "")


@pytest.mark.parametrize(
    ("kind", "told", "said"),
    [
        (RunnerConfig, {"max_parallel": 0}, "runner.max_parallel must be at least 1, not 0"),
        (RayConfig, {"gpus_per_job": -1}, "runner.gpus_per_job must be at least 0, not -1"),
        (SlurmConfig, {"nodes": 0}, "runner.nodes must be at least 1, not 0"),
        (SlurmConfig, {"cluster": "pbs"}, "runner.cluster must be slurm or local, not pbs"),
    ],
)
def test_what_cannot_be_is_refused(
    kind: type[RunnerConfig], told: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        kind(**told)  # type: ignore[arg-type]
