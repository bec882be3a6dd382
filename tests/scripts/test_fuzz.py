"""The fuzz script finds no traceback, crash or hang in a few seconds, and reports one that is."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "fuzz.py"


def test_random_and_damaged_input_gives_values_or_sentences() -> None:
    program = [sys.executable, str(SCRIPT), "--seconds", "8", "--seed", "1"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().endswith(" cases, 0 failures")
    assert not done.stdout.rstrip().endswith("\n0 cases, 0 failures")


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError("x"), ValueError("a\nb")])
def test_an_error_that_is_no_sentence_is_a_failure(error: Exception) -> None:
    script = runpy.run_path(str(SCRIPT))

    def fail(*_: object) -> None:
        raise error

    script["CASES"]["failing"] = fail
    with pytest.raises(type(error)):
        script["run_case"]("failing", "0")
