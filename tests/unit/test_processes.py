"""A process alone is the first of one; several exchange what they have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from palitune import processes

ROOT = Path(__file__).parents[2]
STORY = """
from pathlib import Path
from palitune import processes
own = f"of {processes.rank()}"

def fail():
    raise ValueError(own)

try:
    processes.by_first(fail)
except ValueError as fault:
    failed = str(fault)
Path(f"told_by_{processes.rank()}").write_text("|".join([
    f"{processes.rank()} of {processes.count()}",
    processes.from_first(own),
    processes.by_first(lambda: own + "!"),
    " ".join(processes.gathered(own)),
    failed,
    str(processes.any_of(processes.rank() == 1)),
    str(processes.any_of(False)),
]))
"""


def test_a_process_alone_needs_nobody() -> None:
    assert (processes.rank(), processes.count(), processes.is_first()) == (0, 1, True)
    assert processes.from_first("a") == processes.by_first(lambda: "a") == "a"
    assert processes.gathered("a") == ["a"]
    assert processes.any_of(True)
    assert not processes.any_of(False)


def test_an_answer_of_one_process_needs_no_torch() -> None:
    code = "from palitune import processes as p; p.from_first(1); p.gathered(1); import sys; "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_two_processes_hear_the_first_and_the_first_hears_all(tmp_path: Path) -> None:
    (tmp_path / "story.py").write_text(STORY)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "story.py"]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [(tmp_path / f"told_by_{rank}").read_text() for rank in (0, 1)] == [
        "0 of 2|of 0|of 0!|of 0 of 1|of 0|True|False",
        "1 of 2|of 0|of 0!||of 0|True|False",
    ]


def test_who_is_first_is_told_by_the_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    assert (processes.rank(), processes.count(), processes.is_first()) == (2, 3, False)
