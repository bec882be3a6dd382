"""The launcher returns one exit code and prints one error for all processes."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from palitune.distributed.launcher import _exit_code, launch_processes
from palitune.distributed.strategies import MultiProcess
from palitune.errors import DataError

SCRIPT = """
import os, sys
print(os.environ["RANK"], "of", os.environ["WORLD_SIZE"])
if os.environ["RANK"] == sys.argv[1]:
    print("palitune: boats.jsonl:3: no box", file=sys.stderr)
    sys.exit(int(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def _restore_signals_and_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo the elastic agent's changes of signal handlers and environment variables."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(os, "environ", os.environ.copy())
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "script.py").write_text(SCRIPT)
    return str(tmp_path / "script.py")


@pytest.mark.parametrize(
    ("rank", "code", "exit_code", "stderr"),
    [
        (9, 0, 0, ""),
        (0, 75, 75, "palitune: boats.jsonl:3: no box\n"),
        (0, 1, 1, "palitune: boats.jsonl:3: no box\n"),
        (1, 1, 1, "palitune: process 1: boats.jsonl:3: no box\n"),
    ],
)
def test_output_of_the_first_process_is_shown_and_errors_of_others_are_quoted(
    rank: int,
    code: int,
    exit_code: int,
    stderr: str,
    script: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert (
        launch_processes(MultiProcess(nproc_per_node=2), [script, str(rank), str(code)])
        == exit_code
    )
    out, err = capfd.readouterr()
    assert out == "0 of 2\n"
    assert err == stderr


KILLED = """
import os, signal, sys, time
if os.environ["RANK"] == "1":
    time.sleep(1)
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
time.sleep(60)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_killed_process_is_no_preemption_although_the_others_exit_as_preempted(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "script.py").write_text(KILLED)
    command = [str(tmp_path / "script.py"), name]
    assert launch_processes(MultiProcess(nproc_per_node=2), command) == 1
    assert f"palitune: process 1 was ended by {name}" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ({0: 75, 1: -9}, 1), ({0: -11, 1: 75}, 1), ({0: 75, 1: 75}, 75), ({0: -15, 1: 75}, 75),
        ({0: 130, 1: -2}, 130),
    ],
)  # fmt: skip
def test_the_first_cause_decides_the_exit_code(
    codes: dict[int, int], expected: int, tmp_path: Path
) -> None:
    assert _exit_code(codes, tmp_path) == expected


def test_more_processes_than_gpus_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(DataError, match=r"launch\.nproc_per_node must be at most 1, .* got 2\."):
        launch_processes(MultiProcess(nproc_per_node=2), [sys.executable])
