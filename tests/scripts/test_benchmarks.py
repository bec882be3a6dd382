"""The benchmarks run, check equality first, and fail by name below their goals."""

import importlib
import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def side_by_side(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("harness.paired_timing")


@pytest.fixture
def _no_server_stays() -> Iterator[None]:
    yield
    forkserver._forkserver._stop()  # "used by unit tests to stop the server", as Python says of it


@pytest.mark.usefixtures("_no_server_stays")
@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ("step", 6),
        ("memory", 2),
        ("images", 6),
        ("generate", 4),
        ("self_check", 1),
        ("constrained", 2),
    ],
)
def test_a_benchmark_runs_on_a_toy_whose_results_are_equal(
    script: str, lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    output = tmp_path / "table"
    monkeypatch.setattr(sys, "argv", [script, "--quick", "--output", str(output)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 0
    written = json.loads(output.with_suffix(".json").read_text())
    assert [row["error"] for row in written["rows"]] == [None] * lines
    assert written["environment"]["torch"] == torch.__version__
    table = output.with_suffix(".md").read_text()
    assert all(row["line"] in table for row in written["rows"])


@pytest.mark.parametrize(
    "name",
    ["constrained", "generate", "images", "memory", "metrics", "scale", "self_check", "step"],
)
def test_a_benchmark_that_is_asked_for_help_runs_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--check", "--output", "--rounds", "--quick"))


def test_the_benchmark_of_a_gpu_runs_on_a_toy_without_one(tmp_path: Path) -> None:
    """Other parts run the same functions as their own tests, and take minutes."""
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--dry", "--output", str(tmp_path)]
    for part in ("finetune", "attention", "generate", "evaluate"):
        command += ["--part", part]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    [file] = tmp_path.glob("*.json")
    written = json.loads(file.read_text())
    assert [row["error"] for row in written["rows"]] == [None] * len(written["rows"])
    parts = {row["part"]: row["values"].keys() for row in written["rows"]}
    assert parts["finetune"] >= {"ms/step", "stock ms/step", "planner GiB", "samples/s"}
    assert parts["attention"] >= {"ms", "largest error"}
    assert parts["generate"] >= {"tokens/s", "graphs tokens/s", "stock tokens/s"}
    assert parts["evaluate"] >= {"answers/s"}
    errors = [row["values"].get("largest error", 0) for row in written["rows"]]
    assert max(errors) < 1e-4
    assert file.with_suffix(".md").read_text().count("|---") >= 4


def test_the_benchmark_of_a_gpu_says_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / "gpu.py"), run_name="__main__")
    assert ended.value.code == 2
    assert "no GPU is visible to torch. Add --dry" in capsys.readouterr().err


def step(loss: float, gradient: float) -> Any:
    return lambda: (loss, {"lora_A": torch.tensor([1.0, gradient])})


def compare(side_by_side: Any, *told: Any, **how: Any) -> Any:
    return side_by_side.compare(*told, **how, find_difference=side_by_side.difference)


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        (step(2.001, 3.0), "losses differ"),
        (step(2.0, 3.001), "the gradient of lora_A differs by"),
        (step(2.0, float("nan")), "the gradient of lora_A differs by"),
        (lambda: (2.0, {}), "other weights are trained"),
    ],
)
def test_unequal_results_get_no_ratio(ours: Any, said: str, side_by_side: Any) -> None:
    row = compare(side_by_side, "a line", ours, step(2.0, 3.0), goal=0.0, rounds=2)
    assert said in row.error
    assert "no ratio" in side_by_side.markdown([row])
    assert side_by_side.finish([row], None, check=False) == 1


def test_check_names_the_lines_below_their_goal(
    side_by_side: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    same = step(2.0, 3.0)
    slow = compare(side_by_side, "never enough", same, same, goal=1e9, rounds=3)
    fine = compare(side_by_side, "always enough", same, same, goal=0.0, rounds=3)
    assert side_by_side.finish([slow, fine], None, check=False) == 0
    assert side_by_side.finish([slow, fine], None, check=True) == 1
    assert capsys.readouterr().out.count("below the goal of 1e+09x: never enough") == 2
    assert side_by_side.finish([fine], None, check=True) == 0


def test_one_suffix_each_holds_the_same_suffixes_as_the_packed_batch(side_by_side: Any) -> None:
    steps = importlib.import_module("harness.training_steps")
    packed = steps.synthetic_batch(steps.SIZES["quick"], 2, 3, "cpu")
    apart = steps.unpack_suffixes(packed)
    assert apart["input_ids"].shape == (6, 16 + steps.PREFIX + steps.SUFFIX)
    for batch in (packed, apart):
        assert int((batch["labels"] >= 0).sum()) == 2 * 3 * steps.SUFFIX
    second = packed["labels"][1][packed["token_type_ids"][1] == 2]
    assert torch.equal(apart["labels"][3][-steps.SUFFIX :], second)
