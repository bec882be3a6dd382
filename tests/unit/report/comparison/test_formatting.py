import re
from pathlib import Path

from palitune.report.comparison.compare import compare_runs
from palitune.report.comparison.formatting import INTERVAL_NOTE, format_change, format_value

from support.comparison_runs import STRONG_ANSWERS, WEAK_ANSWERS, write_run


def test_a_metric_is_formatted_with_its_interval_and_its_change(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "a", WEAK_ANSWERS, rank=8),
        write_run(tmp_path / "b", STRONG_ANSWERS, rank=16),
    ]
    weak, strong = compare_runs([str(run) for run in runs]).tables[0].rows
    value = str(format_value(weak, "exact_match"))
    assert re.fullmatch(r"0\.250 \[0\.\d{3}, 0\.\d{3}\]", value)
    assert format_change(weak, "exact_match") is None
    change = format_change(strong, "exact_match")
    assert re.fullmatch(r"\+0\.500 \[\+0\.\d{3}, \+0\.\d{3}\] better", str(change))
    assert (str(format_value(weak, "AP")), format_change(weak, "AP")) == ("–", None)


def test_the_note_explains_intervals_and_verdicts() -> None:
    assert "95 % bootstrap confidence intervals" in INTERVAL_NOTE
    assert "With many runs, some differences are significant by chance." in INTERVAL_NOTE
