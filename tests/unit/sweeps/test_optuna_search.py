"""A search goes on where it was cut off, and ends with a page and the best settings."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from palitune import config
from palitune.config import Finetune
from palitune.config.search_space import OptunaSearch

from support import fake_sweep_jobs
from support.browser import DESKTOP, PHONE, open_page
from support.fake_sweep_jobs import FakeSearchRunner, run_search

SOURCES = Path(__file__).parents[3] / "src"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trials(folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path(folder, "sweep.json").read_text())["jobs"]
    return found


def test_a_killed_search_goes_on_as_if_it_had_not_been(capsys: pytest.CaptureFixture[str]) -> None:
    told = ["search.n_trials=8"]
    killed = subprocess.run(
        [sys.executable, fake_sweep_jobs.__file__, *told, "output_dir=cut"],
        env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    before = [job["state"] for job in trials("cut")]
    assert before == ["done", "done", "done", "interrupted"]

    resumed, whole = FakeSearchRunner(), FakeSearchRunner()
    codes = [
        run_search(runner, *told, f"output_dir={folder}")
        for runner, folder in ((resumed, "cut"), (whole, "whole"))
    ]
    failed = [job["error"] for job in trials("whole") if job["state"] == "failed"]
    assert failed == ["boats.jsonl:3: no box"]
    assert codes == [1, 1]
    assert len(resumed.overrides_per_job) == 5
    assert resumed.overrides_per_job[0]["output_dir"] == "'cut/3'"
    assert [job["label"] for job in trials("cut")] == [job["label"] for job in trials("whole")]
    assert {told["training.resume"] for told in resumed.overrides_per_job} == {"auto"}
    assert {told["evaluation.split"] for told in resumed.overrides_per_job} == {"'validation'"}

    page = Path("cut/search.html").read_text()
    assert page.count('class="trial') == 7
    assert "what mattered" in page
    run = config.compose("finetune", ["experiment=best"], config_dir="cut/conf")
    assert isinstance(run, Finetune)
    learning_rate, resume = run.training.learning_rate, run.training.resume
    rates = [told["training.learning_rate"] for told in whole.overrides_per_job]
    assert repr(learning_rate) in rates
    assert (resume, run.evaluation.split, run.evaluate_before) == (None, "test", True)
    assert not isinstance(run.search, OptunaSearch)
    out = capsys.readouterr().out
    assert "again: palitune finetune --config-dir cut/conf experiment=best\n" in out

    assert run_search(FakeSearchRunner(), *told, "seed=9", "output_dir=cut") == 1
    assert "cut holds a search with another overrides" in capsys.readouterr().err


def test_what_the_command_line_says_of_a_setting_goes_before_the_space(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runner = FakeSearchRunner()
    told = ["adapter.rank=8", "adapter.alpha=int(interval(8,64))", "seed=1,2", "search.n_trials=3"]
    metric = "search.metric=ocr/character_error_rate"
    assert run_search(runner, *told, metric, "runner.max_parallel=2", "output_dir=out") == 0
    assert [told["adapter.rank"] for told in runner.overrides_per_job] == ["8"] * 3
    assert all(8 <= int(told["adapter.alpha"]) <= 64 for told in runner.overrides_per_job)
    assert all(told["seed"] in "12" for told in runner.overrides_per_job)
    errors = [
        json.loads(Path("out", job["folder"], "metrics.json").read_text()) for job in trials("out")
    ]
    least = min(found["after"]["ocr/character_error_rate"] for found in errors)
    assert f"best: ocr/character_error_rate {least:.4g}, of trial" in capsys.readouterr().out
    for window in (PHONE, DESKTOP):
        with open_page(Path("out/search.html"), window) as visit:
            assert visit.errors == []
            assert visit.overflow() <= 0
            assert visit.page.locator(".trial").count() == 3
            assert visit.page.locator("figure svg").count() == 1
            assert visit.page.locator("tbody tr").count() == 3


@pytest.mark.parametrize(
    ("told", "code", "said"),
    [
        ("search.metric=ocr/exact", 1, "search.metric: there is no number 'ocr/exact' (did you"),
        ("training.validation_split=null", 2, "a search needs training.validation_split"),
        ("search.space={adapter.dropout: 0}", 2, "adapter.dropout=0 gives one value"),
        ("adapter.dropout=choice(0,2)", 2, "adapter.dropout must be at least 0 and below 1, got 2"),
        ("adapter.dropout=tag(log,interval(0,0.1))", 2, "must lie above 0"),
        ("adapter.dropout=interval(1,0)", 2, "an interval goes from less to more"),
        ("search.n_trials=0", 2, "search.n_trials must be at least 1, not 0"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(
    told: str, code: int, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_search(FakeSearchRunner(), told, "adapter.rank=8", "output_dir=out") == code
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert code == 1 or list(tmp_path.iterdir()) == []


def test_data_alone_cannot_be_searched(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_search(FakeSearchRunner(), recipe="inspect") == 2
    assert "inspect measures nothing that could be searched" in capsys.readouterr().err
