"""What a sweep runs, where, and what it says when it ends."""

import json
import shlex
import signal
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from palitune import config
from palitune.cli.launch import launch
from palitune.config.recipes import Evaluate, RecipeConfig
from palitune.config.runners import Outcome, RunnerConfig
from palitune.errors import FAILED, INTERRUPTED, PREEMPTED, USAGE_ERROR

BASE = ["data=handwriting", "task=ocr", "model=tiny"]


class Told:
    """Stands where processes would: notes what it is told and ends every job as it is said to."""

    def __init__(self, outcomes: Sequence[Outcome] = (), at_once: int = 1) -> None:
        self.outcomes = list(outcomes)
        self.commands: list[list[str]] = []
        self.again: list[Sequence[str]] = []
        self.ended = False
        self.together = Barrier(at_once, timeout=10)

    def run(self, command: Sequence[str], again: Sequence[str], log: Path) -> Outcome:
        self.commands.append(list(command))
        self.again.append(again)
        self.together.wait()
        return self.outcomes.pop(0) if self.outcomes else (0, "")

    def terminate(self) -> None:
        self.ended = True


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def composed() -> dict[str, RecipeConfig]:
    return {recipe: config.compose(recipe, BASE) for recipe in ("finetune", "evaluate")}


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, composed: dict[str, RecipeConfig]) -> Any:
    """Sweeps by a command line; the configuration of a job is not composed unless it `composes`."""

    def quickly(recipe: str, overrides: Sequence[str], *_: Any) -> RecipeConfig:
        told = settings(overrides)
        jobs = RunnerConfig(max_parallel=int(told.get("runner.max_parallel", 1)))
        return replace(composed[recipe], output_dir=told["output_dir"], runner=jobs)  # type: ignore[call-arg]

    def sweep(runner: Told, *told: str, recipe: str = "finetune", composes: bool = False) -> int:
        monkeypatch.setattr(RunnerConfig, "runner", lambda self, folder: runner)
        if not composes:
            monkeypatch.setattr(config, "compose", quickly)
        program = ["-m", "palitune", recipe]
        return launch(recipe, lambda: lambda run: None, program, "", ["--multirun", *BASE, *told])

    return sweep


def settings(overrides: Sequence[str]) -> dict[str, str]:
    return {key: value.strip("'") for key, _, value in (text.partition("=") for text in overrides)}


def jobs(folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(folder, "sweep.json").read_text())["jobs"]
    return found


def test_every_combination_is_run_once_in_a_folder_of_its_own(sweep: Any) -> None:
    runner = Told()
    swept = ["adapter.rank=4,8", "seed=range(2)", "adapter.dropout=0,0.1"]
    assert sweep(runner, *swept, "output_dir=out") == 0
    assert all(command[:3] == ["-m", "palitune", "finetune"] for command in runner.commands)
    told = [settings(command[3:]) for command in runner.commands]
    keys = ["adapter.rank", "seed", "adapter.dropout"]
    assert [tuple(one[key] for key in keys) for one in told] == list(
        product(["4", "8"], ["0", "1"], ["0", "0.1"])
    )
    folders = [one["output_dir"] for one in told]
    assert len(set(folders)) == 8
    assert folders[0] == "out/0_adapter.rank=4,seed=0,adapter.dropout=0"
    assert [f"out/{job['folder']}" for job in jobs("out")] == folders
    assert {job["state"] for job in jobs("out")} == {"done"}
    # Each can be run again by hand.
    assert [job["overrides"] for job in jobs("out")] == [c[3:] for c in runner.commands]


def test_folders_are_named_by_what_differs_and_never_lead_elsewhere(sweep: Any) -> None:
    runner = Told()
    paths = "adapter.path=null,'../runs/a b/adapter',../runs/c/adapter"
    told = [paths, "output_dir='my out'"]
    assert sweep(runner, *told, recipe="evaluate", composes=True) == 0
    assert [job["folder"] for job in jobs("my out")] == [
        "0_adapter.path=null", "1_adapter.path=a_b", "2_adapter.path=c",
    ]  # fmt: skip
    run = config.compose("evaluate", runner.commands[1][3:])
    assert isinstance(run, Evaluate)
    assert run.output_dir == "my out/1_adapter.path=a_b"
    assert run.adapter.path == "../runs/a b/adapter"


def test_only_what_can_be_gone_on_with_is_told_to_when_it_is_begun_again(sweep: Any) -> None:
    for recipe, expected in (("finetune", ["training.resume=auto"]), ("evaluate", [])):
        runner = Told()
        assert sweep(runner, "seed=1,2", f"output_dir={recipe}", recipe=recipe) == 0
        assert runner.again == [expected] * 2


def test_a_job_that_fails_ends_no_other_and_is_told_with_its_sentence(
    sweep: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = Told([(1, "palitune: boats.jsonl:3: no box"), (-signal.SIGKILL, ""), (4, "")])
    Path("my out/3_seed=4").mkdir(parents=True)
    Path("my out/3_seed=4/metrics.json").touch()
    assert sweep(runner, "seed=1,2,3,4", "output_dir='my out'") == FAILED
    assert len(runner.commands) == 4
    assert [(job["state"], job["error"]) for job in jobs("my out")] == [
        ("failed", "boats.jsonl:3: no box"),
        ("failed", "ended by SIGKILL"),
        ("failed", "exit code 4"),
        ("done", ""),
    ]
    out, err = capsys.readouterr()
    assert "job 1 of 4: seed=1 -> my out/0_seed=1\n" in out
    assert "sweep: 1 of 4 jobs done, in my out\n" in out
    (line,) = (line for line in out.splitlines() if line.startswith("side by side"))
    assert shlex.split(line)[-3:] == ["palitune", "compare", "my out"]
    assert "3 of 4 jobs failed: seed=1 (boats.jsonl:3: no box); seed=2 (ended by SIGKILL)" in err


@pytest.mark.parametrize("code", [INTERRUPTED, PREEMPTED])
def test_a_job_that_was_told_to_end_ends_the_sweep(code: int, sweep: Any) -> None:
    runner = Told([(0, ""), (code, "")])
    assert sweep(runner, "seed=1,2,3", "output_dir=out") == code
    assert runner.ended
    assert [job["state"] for job in jobs("out")] == ["done", "interrupted", "waiting"]


def test_as_many_jobs_run_at_a_time_as_are_asked_for(sweep: Any) -> None:
    runner = Told(at_once=3)  # none goes on before three have begun
    assert sweep(runner, "seed=range(6)", "runner.max_parallel=3", "output_dir=out") == 0
    assert {job["state"] for job in jobs("out")} == {"done"}


def test_nothing_is_begun_where_one_job_could_not_be(
    sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = Told()
    assert sweep(runner, "adapter.rank=8,0", composes=True) == USAGE_ERROR
    assert "adapter.rank must be at least 1, got 0" in capsys.readouterr().err
    assert sweep(runner, "adapter.rank=8,16", "--cfg", "job", composes=True) == 0
    shown = capsys.readouterr().out.split("---\n")
    assert ["rank: 8" in shown[0], "rank: 16" in shown[1], len(shown)] == [True, True, 2]
    assert runner.commands == []
    assert list(tmp_path.iterdir()) == []
