"""The files of a comparison have the same metrics, and each has the warnings."""

import csv
from pathlib import Path

import pytest

from palitune.report.comparison.compare import Comparison, compare_runs
from palitune.report.comparison.files import to_csv, to_markdown, write_comparison_files

from support.comparison_runs import STRONG_ANSWERS, WEAK_ANSWERS, write_run


@pytest.fixture
def compared(tmp_path: Path) -> Comparison:
    weak = write_run(tmp_path / "a", WEAK_ANSWERS, rank=8)
    strong = write_run(tmp_path / "b", STRONG_ANSWERS, rank=16, torch="2.14.0")
    return compare_runs([str(weak), str(strong)])


def test_the_markdown_is_a_table_with_a_row_per_run(compared: Comparison) -> None:
    lines = to_markdown(compared).splitlines()
    (head,) = [line for line in lines if line.startswith("| run")]
    assert head == "| run | exact_match | character_error_rate | malformed |"
    rows = [line for line in lines if line.startswith("| adapter")]
    assert [row.count(" | ") for row in rows] == [3, 3]
    assert rows[0].startswith("| adapter rank 8 (baseline) | 0.250 [")
    assert "<br>+0.500 [" in rows[1]


def test_the_csv_reads_back(compared: Comparison) -> None:
    weak, strong = csv.DictReader(to_csv(compared).splitlines())
    assert (weak["run"], strong["run"]) == ("adapter rank 8", "adapter rank 16")
    assert (float(weak["exact_match"]), float(strong["exact_match"])) == (0.25, 0.75)
    assert float(strong["exact_match_change"]) == 0.5
    assert float(strong["exact_match_change_low"]) > 0
    assert weak["exact_match_change"] == ""
    assert (weak["part"], weak["split"], weak["examples"]) == ("ocr", "test", "12")


def test_every_file_has_every_warning(compared: Comparison, tmp_path: Path) -> None:
    write_comparison_files(compared, tmp_path / "out")
    for name in ("comparison.md", "comparison.csv", "comparison.html"):
        assert "the versions of torch differ" in (tmp_path / "out" / name).read_text(), name
