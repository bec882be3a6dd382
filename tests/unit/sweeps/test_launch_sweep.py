"""Sweeps over combinations of values: jobs, folders, failures, and the summary."""

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

from palitune.cli.launch import launch
from palitune.config.compose import compose
from palitune.config.recipes import RECIPE_CONFIGS, Evaluate, RecipeConfig
from palitune.config.runners import RunnerConfig
from palitune.errors import FAILED, INTERRUPTED, PREEMPTED, USAGE_ERROR
from palitune.sweeps import launch_sweep
from palitune.sweeps import sweep as sweep_module
from palitune.sweeps.runner import Outcome

BASE = ["data=handwriting", "task=ocr", "model=tiny"]


class FakeRunner:
    """Records the commands of jobs and returns prepared outcomes instead of running processes."""

    def __init__(self, outcomes: Sequence[Outcome] = (), max_parallel: int = 1) -> None:
        self.outcomes = list(outcomes)
        self.commands: list[list[str]] = []
        self.resume_args: list[Sequence[str]] = []
        self.terminated = False
        self.barrier = Barrier(max_parallel, timeout=10)

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        self.commands.append(list(command))
        self.resume_args.append(resume_args)
        self.barrier.wait()
        return self.outcomes.pop(0) if self.outcomes else (0, "")

    def terminate(self) -> None:
        self.terminated = True


@pytest.fixture(autouse=True)
def _in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def composed() -> dict[str, RecipeConfig]:
    return {recipe: compose(RECIPE_CONFIGS[recipe], BASE) for recipe in ("finetune", "evaluate")}


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, composed: dict[str, RecipeConfig]) -> Any:
    """A function that runs a sweep; without `composes`, the runs of its jobs are not composed."""

    def replace_values(schema: type[RecipeConfig], overrides: Sequence[str], *_: Any) -> Any:
        values = settings(overrides)
        runner = RunnerConfig(max_parallel=int(values.get("runner.max_parallel", 1)))
        run: Any = composed[schema.name]
        return replace(run, output_dir=values["output_dir"], runner=runner)

    def sweep(
        runner: FakeRunner, *overrides: str, recipe: str = "finetune", composes: bool = False
    ) -> int:
        monkeypatch.setattr(launch_sweep, "make_runner", lambda settings, folder: runner)
        if not composes:
            monkeypatch.setattr(sweep_module, "compose", replace_values)
        python_args, argv = ["-m", "palitune", recipe], ["--multirun", *BASE, *overrides]
        return launch(RECIPE_CONFIGS[recipe], lambda: lambda run: None, python_args, "", argv)

    return sweep


def settings(overrides: Sequence[str]) -> dict[str, str]:
    return {key: value.strip("'") for key, _, value in (text.partition("=") for text in overrides)}


def jobs(folder: str) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = json.loads(Path(folder, "sweep.json").read_text())["jobs"]
    return jobs


def test_every_combination_runs_once_in_its_own_folder(sweep: Any) -> None:
    runner = FakeRunner()
    swept = ["adapter.rank=4,8", "seed=range(2)", "adapter.dropout=0,0.1"]
    assert sweep(runner, *swept, "output_dir=out") == 0
    assert all(command[:3] == ["-m", "palitune", "finetune"] for command in runner.commands)
    jobs_values = [settings(command[3:]) for command in runner.commands]
    keys = ["adapter.rank", "seed", "adapter.dropout"]
    assert [tuple(values[key] for key in keys) for values in jobs_values] == list(
        product(["4", "8"], ["0", "1"], ["0", "0.1"])
    )
    folders = [values["output_dir"] for values in jobs_values]
    assert len(set(folders)) == 8
    assert folders[0] == "out/0_adapter.rank=4,seed=0,adapter.dropout=0"
    assert [f"out/{job['folder']}" for job in jobs("out")] == folders
    assert {job["state"] for job in jobs("out")} == {"done"}
    # The recorded overrides run the same job again.
    assert [job["overrides"] for job in jobs("out")] == [c[3:] for c in runner.commands]


def test_folders_are_named_by_differences_and_stay_inside_the_sweep(sweep: Any) -> None:
    runner = FakeRunner()
    paths = "adapter.path=null,'../runs/a b/adapter',../runs/c/adapter"
    overrides = [paths, "output_dir='my out'"]
    assert sweep(runner, *overrides, recipe="evaluate", composes=True) == 0
    assert [job["folder"] for job in jobs("my out")] == [
        "0_adapter.path=null", "1_adapter.path=a_b", "2_adapter.path=c",
    ]  # fmt: skip
    run = compose(Evaluate, runner.commands[1][3:])
    assert run.output_dir == "my out/1_adapter.path=a_b"
    assert run.adapter.path == "../runs/a b/adapter"


def test_only_training_jobs_get_resume_arguments(sweep: Any) -> None:
    for recipe, expected in (("finetune", ["training.resume=auto"]), ("evaluate", [])):
        runner = FakeRunner()
        assert sweep(runner, "seed=1,2", f"output_dir={recipe}", recipe=recipe) == 0
        assert runner.resume_args == [expected] * 2


def test_a_failed_job_does_not_stop_the_others_and_is_reported(
    sweep: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = FakeRunner([(1, "palitune: boats.jsonl:3: no box"), (-signal.SIGKILL, ""), (4, "")])
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
    (line,) = (line for line in out.splitlines() if line.startswith("compare: "))
    assert shlex.split(line)[-3:] == ["palitune", "compare", "my out"]
    assert "3 of 4 jobs failed: seed=1 (boats.jsonl:3: no box); seed=2 (ended by SIGKILL)" in err


@pytest.mark.parametrize("code", [INTERRUPTED, PREEMPTED])
def test_an_interrupted_job_ends_the_sweep(code: int, sweep: Any) -> None:
    runner = FakeRunner([(0, ""), (code, "")])
    assert sweep(runner, "seed=1,2,3", "output_dir=out") == code
    assert runner.terminated
    assert [job["state"] for job in jobs("out")] == ["done", "interrupted", "waiting"]


def test_max_parallel_jobs_run_at_the_same_time(sweep: Any) -> None:
    runner = FakeRunner(max_parallel=3)  # no job ends before three have started
    assert sweep(runner, "seed=range(6)", "runner.max_parallel=3", "output_dir=out") == 0
    assert {job["state"] for job in jobs("out")} == {"done"}


def test_no_job_starts_if_one_is_invalid(
    sweep: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = FakeRunner()
    assert sweep(runner, "adapter.rank=8,0", composes=True) == USAGE_ERROR
    assert "adapter.rank must be at least 1, got 0" in capsys.readouterr().err
    assert sweep(runner, "adapter.rank=8,16", "--cfg", "job", composes=True) == 0
    shown = capsys.readouterr().out.split("---\n")
    assert ["rank: 8" in shown[0], "rank: 16" in shown[1], len(shown)] == [True, True, 2]
    assert runner.commands == []
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    """Three folders: two of data in different formats, and one of notes."""
    for name in ("boats", "cells", "notes"):
        (tmp_path / "domains" / name).mkdir(parents=True)
    line = json.dumps({"image": "a.png", "caption": "a boat"})
    for split in ("train", "test"):
        (tmp_path / "domains" / "boats" / f"{split}.jsonl").write_text(line)
        (tmp_path / "domains" / "cells" / f"{split}.csv").write_text("image,text\na.png,abc\n")
    (tmp_path / "domains" / "notes" / "a.txt").write_text("hello")
    (tmp_path / "domains" / "domains.csv").write_text("boats,sea\n")
    return tmp_path / "domains"


def run_domains(monkeypatch: pytest.MonkeyPatch, runner: FakeRunner) -> int:
    monkeypatch.setattr(launch_sweep, "make_runner", lambda settings, folder: runner)
    argv = ["--multirun", "data.path=glob(domains/*)", "model=tiny", "output_dir=all"]
    schema = RECIPE_CONFIGS["finetune"]
    return launch(schema, lambda: lambda run: None, ["-m", "palitune", "finetune"], "", argv)


def test_a_sweep_over_folders_recognizes_each_and_a_failed_one_does_not_stop_the_rest(
    domains: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = FakeRunner()
    assert run_domains(monkeypatch, runner) == FAILED
    commands = [settings(command) for command in runner.commands]
    assert [(c["data"], c["task"], c["data.path"]) for c in commands] == [
        ("jsonl", "caption", "domains/boats"),
        ("csv", "ocr", "domains/cells"),
    ]
    jobs = json.loads(Path("all/sweep.json").read_text())["jobs"]
    assert [job["state"] for job in jobs] == ["done", "done", "failed"]
    assert "domains/notes does not look like any known format" in jobs[2]["error"]
    assert "sweep: 2 of 3 jobs done" in capsys.readouterr().out


def test_the_same_sweep_again_runs_only_the_jobs_that_did_not_finish(sweep: Any) -> None:
    overrides = ["adapter.rank=4,8", "output_dir=all"]
    assert sweep(FakeRunner([(1, "palitune: no memory")]), *overrides) == FAILED
    runner = FakeRunner()
    assert sweep(runner, "adapter.rank=2,4,8", "output_dir=all") == 0
    first, second = map(settings, runner.commands)
    assert (first["adapter.rank"], first.get("training.resume")) == ("2", None)
    assert (second["adapter.rank"], second["training.resume"]) == ("4", "auto")
    runner = FakeRunner()
    assert sweep(runner, *overrides) == 0
    assert runner.commands == []


def test_a_pattern_without_a_match_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--multirun", "data.path=glob(nowhere/*)", "model=tiny"]
    assert launch(RECIPE_CONFIGS["finetune"], lambda: lambda run: None, [], "", argv) == USAGE_ERROR
    assert "the pattern matches no folder or file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"recipe": "evaluate"}, "all/sweep.json must be of finetune, got evaluate"),
        ({"jobs": [{"folder": "../x"}]}, "folder '../x' is no name in the folder of the sweep"),
        ({"jobs": [{"overrides": [5]}]}, "has a field of another type"),
        ({"jobs": [{"overrides": "seed=1"}]}, "has a field of another type"),
        ({"jobs": 5}, "is damaged"),
    ],
)
def test_a_sweep_file_that_is_not_of_this_sweep_is_refused(
    changed: dict[str, Any], said: str, sweep: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(FakeRunner(), "adapter.rank=4", "output_dir=all") == 0
    file = Path("all/sweep.json")
    content = json.loads(file.read_text())
    if isinstance(changed.get("jobs"), list):
        changed = {"jobs": [content["jobs"][0] | changed["jobs"][0]]}
    file.write_text(json.dumps(content | changed))
    runner = FakeRunner()
    assert sweep(runner, "adapter.rank=4", "output_dir=all") != 0
    assert said in capsys.readouterr().err
    assert runner.commands == []
