"""Differences of runs with paired bootstrap intervals."""

from pathlib import Path

import numpy as np
import pytest

from palitune.errors import DataError
from palitune.evaluation.bootstrap import bootstrap_counts, confidence_interval
from palitune.metrics import METRICS
from palitune.metrics.base import FloatArray, ResampleCounts
from palitune.records import Example, Prediction
from palitune.report.comparison.compare import Comparison, compare_runs

from support.bootstrap_means import difference_interval
from support.comparison_runs import REFERENCES, STRONG_ANSWERS, WEAK_ANSWERS, write_run


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    weak = write_run(tmp_path / "a", WEAK_ANSWERS, rank=8)
    strong = write_run(tmp_path / "b", STRONG_ANSWERS, rank=16, reverse_order=True)
    return [str(weak), str(strong)]


def matched(answers: tuple[str | None, ...]) -> list[float]:
    return [float(a == r) for a, r in zip(answers, REFERENCES, strict=True)]


def test_the_difference_of_means_has_the_interval_of_pairs(pair: list[str]) -> None:
    (table,) = compare_runs(pair).tables
    assert [row.label for row in table.rows] == ["adapter rank 8", "adapter rank 16"]
    assert table.baseline is table.rows[0]
    metric_value = table.rows[1].metric_values["exact_match"]
    weak, strong = matched(WEAK_ANSWERS), matched(STRONG_ANSWERS)
    assert metric_value.change == pytest.approx(np.mean(strong) - np.mean(weak))
    assert metric_value.intervals[2] == pytest.approx(difference_interval(weak, strong))
    assert table.rows[1].verdict("exact_match") == "better"
    assert table.rows[0].verdict("exact_match") == ""
    assert table.rows[0].metric_values["exact_match"].before is None


def test_the_difference_of_corpus_metrics_is_recomputed(pair: list[str]) -> None:
    def rates(answers: tuple[str | None, ...], counts: ResampleCounts) -> FloatArray:
        metric = METRICS["character_error_rate"]()
        for place, answer in enumerate(answers):
            example = Example(
                id=str(place), images=(), size=(1, 1), prefix="", suffixes=(),
                reference=(REFERENCES[place],), location="",
            )  # fmt: skip
            metric.update(example, Prediction(id=str(place), text="", value=answer))
        return metric.compute_weighted(counts)["character_error_rate"]

    (counts,) = bootstrap_counts(range(len(REFERENCES)))
    (table,) = compare_runs(pair).tables
    metric_value = table.rows[1].metric_values["character_error_rate"]
    expected = confidence_interval(rates(STRONG_ANSWERS, counts) - rates(WEAK_ANSWERS, counts))
    assert metric_value.intervals[2] == pytest.approx(expected)
    assert metric_value.change < 0
    assert table.rows[1].verdict("character_error_rate") == "better"


def test_no_resampling_gives_changes_without_a_verdict(pair: list[str]) -> None:
    row = compare_runs(pair, bootstrap_samples=0).tables[0].rows[1]
    assert row.metric_values["exact_match"].intervals[2] is None
    assert row.metric_values["exact_match"].change > 0
    assert row.verdict("exact_match") == ""


@pytest.mark.parametrize("baseline", ["b", "adapter rank 16", "FOLDER/b"])
def test_the_baseline_is_a_folder_or_a_label(
    baseline: str, pair: list[str], tmp_path: Path
) -> None:
    (table,) = compare_runs(pair, baseline.replace("FOLDER", str(tmp_path))).tables
    assert table.baseline.label == "adapter rank 16"
    assert table.rows[0].metric_values["exact_match"].change < 0
    assert table.rows[0].verdict("exact_match") == "worse"


def test_an_unknown_baseline_is_an_error_with_the_valid_ones(pair: list[str]) -> None:
    with pytest.raises(
        DataError, match=r"baseline=c: no run .* Valid are adapter rank 8; adapter rank 16\."
    ):
        compare_runs(pair, "c")


def test_different_examples_have_no_difference(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", WEAK_ANSWERS),
        write_run(tmp_path / "b", STRONG_ANSWERS[:6], rank=16),
    ]
    compared = compare_runs(list(map(str, runs)))
    assert compared.tables[0].rows[1].metric_values["exact_match"].before is None
    assert compared.warnings == [
        "the runs were evaluated on different examples (6 to 12, 6 in common), so their "
        "differences are not computed"
    ]


def test_metrics_that_the_predictions_do_not_reproduce_have_no_interval(pair: list[str]) -> None:
    file = Path(pair[1]) / "metrics.json"
    file.write_text(file.read_text().replace('"ocr/exact_match": 0.75', '"ocr/exact_match": 0.9'))
    row = compare_runs(pair).tables[0].rows[1]
    assert row.metric_values["exact_match"].after == 0.9
    assert row.metric_values["exact_match"].intervals[2] is None
    assert row.metric_values["character_error_rate"].intervals[2] is not None


def test_the_same_part_of_other_data_is_another_table(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", WEAK_ANSWERS, part="vqa", data="docs"),
        write_run(tmp_path / "b", STRONG_ANSWERS, part="vqa", data="docs", rank=16),
        write_run(tmp_path / "c", WEAK_ANSWERS, part="vqa", data="charts", shift=50),
        write_run(tmp_path / "d", WEAK_ANSWERS, part="vqa", data="elsewhere/docs", rank=4),
    ]
    tables = compare_runs(list(map(str, runs))).tables
    assert [(table.title, len(table.rows)) for table in tables] == [
        ("vqa of docs", 3),
        ("vqa of charts", 1),
    ]


def test_a_warning_names_its_parts_unless_it_is_about_all(tmp_path: Path) -> None:
    def compared(*runs: Path) -> Comparison:
        return compare_runs([str(run) for run in runs])

    a, b = (
        write_run(tmp_path / n, WEAK_ANSWERS, limit="12", rank=r) for n, r in (("a", 1), ("b", 2))
    )
    c, d = (
        write_run(tmp_path / n, WEAK_ANSWERS, part="vqa", rank=r) for n, r in (("c", 1), ("d", 2))
    )
    assert compared(a, b).warnings[0].startswith("a limit was used")
    assert compared(a, b, c, d).warnings[0].startswith("ocr: a limit was used")
