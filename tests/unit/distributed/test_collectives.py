"""A process alone is the first of one; several exchange what they have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from palitune.distributed import collectives

ROOT = Path(__file__).parents[3]
STORY = """
from pathlib import Path
from palitune.distributed import collectives
own = f"of {collectives.rank()}"

def fail():
    raise ValueError(own)

try:
    collectives.run_on_main_process(fail)
except ValueError as fault:
    failed = str(fault)
Path(f"told_by_{collectives.rank()}").write_text("|".join([
    f"{collectives.rank()} of {collectives.world_size()}",
    collectives.broadcast_from_main(own),
    collectives.run_on_main_process(lambda: own + "!"),
    " ".join(collectives.gather_to_main(own)),
    failed,
    str(collectives.any_rank(collectives.rank() == 1)),
    str(collectives.any_rank(False)),
]))
"""


def test_a_process_alone_needs_nobody() -> None:
    assert (collectives.rank(), collectives.world_size(), collectives.is_main_process()) == (
        0,
        1,
        True,
    )
    assert (
        collectives.broadcast_from_main("a") == collectives.run_on_main_process(lambda: "a") == "a"
    )
    assert collectives.gather_to_main("a") == ["a"]
    assert collectives.any_rank(True)
    assert not collectives.any_rank(False)


def test_an_answer_of_one_process_needs_no_torch() -> None:
    code = "from palitune.distributed import collectives as p; p.broadcast_from_main(1); p.gather_to_main(1); import sys; "
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
    assert (collectives.rank(), collectives.world_size(), collectives.is_main_process()) == (
        2,
        3,
        False,
    )
