"""Warnings about differences between runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from palitune.report.comparison.compare import compare_runs

from support.comparison_runs import STRONG_ANSWERS, WEAK_ANSWERS, write_run

CHANGED: dict[str, tuple[dict[str, Any], str]] = {
    "split": (
        {"split": "validation"},
        "the splits differ: test (adapter rank 8); validation (adapter rank 16)",
    ),
    "prompts": ({"prefix": "read"}, "the prompts differ: ocr (adapter rank 8); read"),
    "metrics": (
        {"metrics": ("exact_match_lower",)},
        "the metrics differ: character_error_rate, exact_match (",
    ),
    "versions": ({"torch": "2.14.0"}, "the versions of torch differ: 2.13.0 (adapter rank 8)"),
    "limit": ({"limit": "12"}, "a limit was used (evaluation.max_samples=12; "),
    "examples": ({"shift": 1}, "different examples (12 to 12, 11 in common)"),
}


@pytest.mark.parametrize(("changed", "expected"), CHANGED.values(), ids=CHANGED)
def test_a_difference_is_a_warning(changed: dict[str, Any], expected: str, tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", WEAK_ANSWERS),
        write_run(tmp_path / "b", STRONG_ANSWERS, rank=16, **changed),
    ]
    (warning,) = compare_runs([str(run) for run in runs]).warnings
    assert expected in warning


def test_examples_without_a_prediction_are_a_warning(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", WEAK_ANSWERS),
        write_run(tmp_path / "b", STRONG_ANSWERS, rank=16),
    ]
    file = runs[1] / "metrics.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"missing": {"ocr": 3}}))
    assert compare_runs([str(run) for run in runs]).warnings == [
        "adapter rank 16: 3 of 12 examples have no prediction and are scored as empty"
    ]


def test_different_settings_are_no_warning(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", WEAK_ANSWERS),
        write_run(tmp_path / "b", STRONG_ANSWERS, rank=16),
    ]
    assert compare_runs([str(run) for run in runs]).warnings == []


def test_different_references_are_a_warning_and_not_compared(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", WEAK_ANSWERS),
        write_run(tmp_path / "b", STRONG_ANSWERS, rank=16),
    ]
    file = runs[1] / "predictions.jsonl"
    file.write_text(file.read_text().replace('"reference": ["918"]', '"reference": ["919"]'))
    compared = compare_runs([str(run) for run in runs])
    assert compared.warnings == ["1 of 12 examples have different references"]
    assert compared.tables[0].rows[1].metric_values["exact_match"].before is None


def test_metrics_without_predictions_have_no_difference(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", WEAK_ANSWERS),
        write_run(tmp_path / "b", STRONG_ANSWERS, rank=16),
    ]
    (runs[1] / "predictions.jsonl").unlink()
    compared = compare_runs([str(run) for run in runs])
    assert compared.warnings == [
        "differences to adapter rank 16 are unknown, because predictions.jsonl is missing"
    ]
    assert compared.tables[0].rows[1].metric_values["exact_match"].after == 0.75
