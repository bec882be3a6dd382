"""Collectives in one process and in two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from palitune.distributed import collectives

ROOT = Path(__file__).parents[3]
SCRIPT = """
from pathlib import Path
from palitune.distributed import collectives
value = f"of {collectives.rank()}"

def fail():
    raise ValueError(value)

try:
    collectives.run_on_main_process(fail)
except ValueError as error:
    failed = str(error)
Path(f"result_{collectives.rank()}").write_text("|".join([
    f"{collectives.rank()} of {collectives.world_size()}",
    collectives.broadcast_from_main(value),
    collectives.run_on_main_process(lambda: value + "!"),
    " ".join(collectives.gather_to_main(value)),
    failed,
    str(collectives.any_rank(collectives.rank() == 1)),
    str(collectives.any_rank(False)),
]))
"""


def test_collectives_of_one_process_return_their_input() -> None:
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


def test_collectives_of_one_process_do_not_import_torch() -> None:
    code = "from palitune.distributed import collectives as c; "
    code += (
        "c.broadcast_from_main(1); c.gather_to_main(1); import sys; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_two_processes_broadcast_gather_and_share_errors(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "script.py"]
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
    assert [(tmp_path / f"result_{rank}").read_text() for rank in (0, 1)] == [
        "0 of 2|of 0|of 0!|of 0 of 1|of 0|True|False",
        "1 of 2|of 0|of 0!||of 0|True|False",
    ]


def test_rank_and_world_size_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    assert (collectives.rank(), collectives.world_size(), collectives.is_main_process()) == (
        2,
        3,
        False,
    )
