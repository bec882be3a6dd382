"""A hyper-parameter search resumes, and ends with a page and an experiment of the best values."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palitune.config.compose import compose
from palitune.config.recipes import Finetune
from palitune.config.search_space import OptunaSearch
from palitune.config.to_yaml import to_yaml

from support import fake_sweep_jobs
from support.browser import DESKTOP, PHONE, open_page
from support.fake_sweep_jobs import FakeSearchRunner, run_search

SOURCES = Path(__file__).parents[3] / "src"


@pytest.fixture(autouse=True)
def _in_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trials(folder: str) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = json.loads(Path(folder, "sweep.json").read_text())["jobs"]
    return jobs


def test_a_killed_search_resumes_as_if_it_had_not_been_interrupted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = ["search.n_trials=8"]
    killed = subprocess.run(
        [sys.executable, fake_sweep_jobs.__file__, *overrides, "output_dir=cut"],
        env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    before = [job["state"] for job in trials("cut")]
    assert before == ["done", "done", "done", "interrupted"]

    resumed, whole = FakeSearchRunner(), FakeSearchRunner()
    codes = [
        run_search(runner, *overrides, f"output_dir={folder}")
        for runner, folder in ((resumed, "cut"), (whole, "whole"))
    ]
    failed = [job["error"] for job in trials("whole") if job["state"] == "failed"]
    assert failed == ["boats.jsonl:3: no box"]
    assert codes == [1, 1]
    assert len(resumed.overrides_per_job) == 5
    assert resumed.overrides_per_job[0]["output_dir"] == "'cut/3'"
    assert [job["label"] for job in trials("cut")] == [job["label"] for job in trials("whole")]
    assert {values["training.resume"] for values in resumed.overrides_per_job} == {"auto"}
    assert {values["evaluation.split"] for values in resumed.overrides_per_job} == {"'validation'"}

    page = Path("cut/search.html").read_text()
    assert page.count('class="trial') == 7
    assert "importance" in page
    run = compose(Finetune, ["experiment=best"], config_dir="cut/conf")
    learning_rate, resume = run.training.learning_rate, run.training.resume
    rates = [values["training.learning_rate"] for values in whole.overrides_per_job]
    assert repr(learning_rate) in rates
    assert (resume, run.evaluation.split, run.evaluate_before) == (None, "test", True)
    assert not isinstance(run.search, OptunaSearch)
    out = capsys.readouterr().out
    assert "run it again: palitune finetune --config-dir cut/conf experiment=best\n" in out

    assert run_search(FakeSearchRunner(), *overrides, "seed=9", "output_dir=cut") == 1
    assert "cut holds a search with other overrides" in capsys.readouterr().err


def test_the_command_line_replaces_domains_of_the_search_space(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runner = FakeSearchRunner()
    overrides = [
        "adapter.rank=8",
        "adapter.alpha=int(interval(8,64))",
        "seed=1,2",
        "search.n_trials=3",
    ]
    metric = "search.metric=ocr/character_error_rate"
    assert run_search(runner, *overrides, metric, "runner.max_parallel=2", "output_dir=out") == 0
    assert [values["adapter.rank"] for values in runner.overrides_per_job] == ["8"] * 3
    assert all(8 <= int(values["adapter.alpha"]) <= 64 for values in runner.overrides_per_job)
    assert all(values["seed"] in "12" for values in runner.overrides_per_job)
    metrics = [
        json.loads(Path("out", job["folder"], "metrics.json").read_text()) for job in trials("out")
    ]
    least = min(values["after"]["ocr/character_error_rate"] for values in metrics)
    assert f"best: ocr/character_error_rate {least:.4g}, trial " in capsys.readouterr().out
    for window in (PHONE, DESKTOP):
        with open_page(Path("out/search.html"), window) as visit:
            assert visit.errors == []
            assert visit.overflow() <= 0
            assert visit.page.locator(".trial").count() == 3
            assert visit.page.locator("figure svg").count() == 1
            assert visit.page.locator("tbody tr").count() == 3


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        ("search.metric=ocr/exact", 1, "search.metric: there is no metric 'ocr/exact' (did you"),
        ("training.validation_split=null", 2, "search=optuna requires training.validation_split"),
        ("search.space={adapter.dropout: 0}", 2, "adapter.dropout=0 is a single value"),
        ("adapter.dropout=choice(0,2)", 2, "adapter.dropout must be at least 0 and below 1, got 2"),
        ("adapter.dropout=tag(log,interval(0,0.1))", 2, "must lie above 0"),
        ("adapter.dropout=interval(1,0)", 2, "an interval needs a lower limit below its upper"),
        ("search.n_trials=0", 2, "search.n_trials must be at least 1, got 0."),
    ],
)
def test_an_invalid_search_is_an_error_of_one_sentence(
    override: str, code: int, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_search(FakeSearchRunner(), override, "adapter.rank=8", "output_dir=out") == code
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert code == 1 or list(tmp_path.iterdir()) == []


def test_a_recipe_without_metrics_cannot_be_searched(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_search(FakeSearchRunner(), recipe="inspect") == 2
    assert "search=optuna is not supported by inspect" in capsys.readouterr().err


def test_a_search_space_is_an_option(tmp_path: Path) -> None:
    runner = FakeSearchRunner()
    overrides = ["search_space=optimizer", "search.n_trials=2", "output_dir=out"]
    assert run_search(runner, *overrides) == 0
    assert all("training.weight_decay" in values for values in runner.overrides_per_job)
    assert not any("adapter.rank" in values for values in runner.overrides_per_job)


def test_a_search_space_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "own/search_space/seeds.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("seed: range(0, 4)\ntraining.learning_rate: choice(1e-3, 1e-4)\n")
    runner = FakeSearchRunner()
    overrides = ["search_space=seeds", "--config-dir", "own", "search.n_trials=2"]
    assert run_search(runner, *overrides, "output_dir=out") == 0
    assert {values["seed"] for values in runner.overrides_per_job} <= set("0123")


def test_the_configuration_of_a_search_composes_again(tmp_path: Path) -> None:
    search = ["search=optuna", "search.metric=ocr/exact_match", "search_space=optimizer"]
    base = ["data=handwriting", "task=ocr", "output_dir=first"]
    run = compose(Finetune, [*base, *search])
    (tmp_path / "config.yaml").write_text(to_yaml(run))
    assert compose(Finetune, ["output_dir=first"], run_folder=str(tmp_path)) == run
    without = compose(Finetune, ["search=none"], run_folder=str(tmp_path))
    assert not isinstance(without.search, OptunaSearch)
