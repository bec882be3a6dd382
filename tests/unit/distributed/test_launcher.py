"""Processes are started as asked, and what becomes of them is one exit code and one sentence."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from palitune.distributed.launcher import launch_processes
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
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The agent keeps the signals and sets variables of its process."""
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
    ("rank", "code", "ends", "said"),
    [
        (9, 0, 0, ""),
        (0, 75, 75, "palitune: boats.jsonl:3: no box\n"),
        (0, 1, 1, "palitune: boats.jsonl:3: no box\n"),
        (1, 1, 1, "palitune: process 1: boats.jsonl:3: no box\n"),
    ],
)
def test_the_first_process_speaks_and_another_is_quoted(
    rank: int, code: int, ends: int, said: str, script: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch_processes(MultiProcess(nproc_per_node=2), [script, str(rank), str(code)]) == ends
    out, err = capfd.readouterr()
    assert out == "0 of 2\n"
    assert err == said


def test_no_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(DataError, match=r"launch\.nproc_per_node=2, and .* has 1 GPUs"):
        launch_processes(MultiProcess(nproc_per_node=2), [sys.executable])
