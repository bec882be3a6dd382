"""Runs are read from folders and sweeps, and labeled by the settings that differ."""

import json
from pathlib import Path
from typing import Any

import pytest

from palitune.errors import DataError
from palitune.report.comparison.runs import RunPart, read_runs, run_labels
from palitune.report.run_reader import read_run_folder

from support.comparison_runs import STRONG_ANSWERS, WEAK_ANSWERS, write_run


def labels(tmp_path: Path, *settings: dict[str, Any]) -> list[str]:
    runs = [
        write_run(tmp_path / f"run{i}", WEAK_ANSWERS, **kwargs) for i, kwargs in enumerate(settings)
    ]
    return run_labels([RunPart(read_run_folder(run), "ocr") for run in runs])


def test_runs_are_labeled_by_their_differences(tmp_path: Path) -> None:
    ranks = [{"rank": 8}, {"rank": 16}]
    assert labels(tmp_path, *ranks) == ["adapter rank 8", "adapter rank 16"]


def test_predictions_are_labeled_by_their_file_and_have_no_model(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, WEAK_ANSWERS, recipe=recipe)
        for name, recipe in (("own", "finetune"), ("yolo", "evaluate"), ("more", "evaluate"))
    ]
    for run, file in ((runs[1], "results/yolo.json"), (runs[2], "elsewhere/yolo.json")):
        text = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(f"{text}predictions: {file}\n")
    parts = [RunPart(read_run_folder(run), "ocr") for run in runs]
    assert run_labels(parts[:2]) == ["own", "yolo"]
    assert run_labels(parts) == ["own", "yolo (yolo)", "yolo (more)"]
    assert {key.partition(".")[0] for key in parts[1].settings} == {"data", "task", "evaluation"}


def test_evaluated_adapters_are_labeled_by_their_folders(tmp_path: Path) -> None:
    adapters = [
        {"recipe": "evaluate", "adapter": path, "rank": rank}
        for rank, path in enumerate(["null", "runs/lora8/adapter", "runs/lora16/adapter"])
    ]
    assert labels(tmp_path, *adapters) == ["base model", "adapter lora8", "adapter lora16"]


def test_runs_of_two_recipes_are_labeled_by_the_recipe(tmp_path: Path) -> None:
    recipes = [{"recipe": "finetune"}, {"recipe": "evaluate", "rank": 4}]
    assert labels(tmp_path, *recipes) == ["finetune", "evaluate, base model"]


def test_equal_runs_are_labeled_by_their_folders(tmp_path: Path) -> None:
    assert labels(tmp_path, {}, {}) == ["run0", "run1"]
    three = labels(tmp_path / "more", {"rank": 8}, {"rank": 16}, {"rank": 16})
    assert three == ["adapter rank 8", "adapter rank 16 (run1)", "adapter rank 16 (run2)"]


def sweep(folder: Path) -> Path:
    write_run(folder / "0_seed=1", WEAK_ANSWERS)
    write_run(folder / "1_seed=2", STRONG_ANSWERS)
    write_run(folder / "of an earlier sweep", STRONG_ANSWERS)
    jobs = [
        {"folder": name, "label": name[2:], "state": state, "error": error}
        for name, state, error in (
            ("0_seed=1", "done", ""),
            ("1_seed=2", "done", ""),
            ("2_seed=3", "failed", "the disk is full"),
        )
    ]
    (folder / "sweep.json").write_text(json.dumps({"recipe": "finetune", "jobs": jobs}))
    return folder


def test_a_sweep_has_its_finished_jobs_and_reports_the_others(tmp_path: Path) -> None:
    runs, failed = read_runs([str(sweep(tmp_path / "sweep"))])
    assert [run.path.name for run in runs] == ["0_seed=1", "1_seed=2"]
    assert failed == ["seed=3 is not finished and not compared: the disk is full"]


def test_a_run_that_is_given_twice_is_read_once(tmp_path: Path) -> None:
    folder = sweep(tmp_path / "sweep")
    runs, _ = read_runs([str(folder / "1_seed=2"), str(folder)])
    assert [run.path.name for run in runs] == ["1_seed=2", "0_seed=1"]


def test_a_folder_of_runs_is_read_like_a_sweep(tmp_path: Path) -> None:
    write_run(tmp_path / "b", STRONG_ANSWERS)
    write_run(tmp_path / "a", WEAK_ANSWERS)
    assert [run.path.name for run in read_runs([str(tmp_path)])[0]] == ["a", "b"]


def test_fewer_than_two_runs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="contains no finished run"):
        read_runs([str(tmp_path)])
    with pytest.raises(DataError, match="nowhere does not exist"):
        read_runs([str(tmp_path / "nowhere")])
    run = write_run(tmp_path / "run", WEAK_ANSWERS)
    with pytest.raises(DataError, match="a comparison needs at least two runs"):
        read_runs([str(run)])
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(DataError, match=r"sweep\.json is damaged"):
        read_runs([str(tmp_path)])
