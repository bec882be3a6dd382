"""Report of a data inspection."""

from collections.abc import Callable
from pathlib import Path

import pytest

from palitune.data.inspection.scan import InspectionConfig, InspectionReport, scan
from palitune.data.inspection.warnings import InspectionWarning, inspection_warnings
from palitune.data.sources.coco import Coco
from palitune.models.config import Local, Tiny
from palitune.models.loading import load_processor
from palitune.report.pages.inspection import overview_table, write_inspection_report
from palitune.tasks.detection import Detection

from support.toy_data import write_toy_coco


@pytest.fixture
def inspected(tmp_path: Path, tiny: Callable[[str], Path]) -> InspectionReport:
    processor = load_processor(Local(path=str(tiny("paligemma2"))))
    settings = InspectionConfig(
        splits=[], train_split="train", max_length=1000, num_samples=1, codec_samples=0
    )
    data = Coco(path=str(write_toy_coco(tmp_path / "boxes")))
    report = scan(data.dataset_specs(Detection()), processor, settings)
    assert inspection_warnings(report, settings) != []
    return report


def test_the_overview_has_a_row_per_split(inspected: InspectionReport) -> None:
    table = overview_table(inspected.splits)
    assert [row[0] for row in table.rows] == ["train", "validation", "test"]
    assert [row[1] for row in table.rows] == ["12", "4", "4"]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_warnings_are_on_the_page_and_in_the_terminal_without_markup(
    inspected: InspectionReport, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    warnings = [
        InspectionWarning("bad", "labels [red] & <blue>"),
        InspectionWarning("odd", "few boats"),
    ]
    write_inspection_report(tmp_path, inspected, warnings, Tiny())
    output = capfd.readouterr().out
    assert "✗ labels [red] & <blue>" in output
    assert "· few boats" in output
    page = (tmp_path / "inspection.html").read_text(encoding="utf-8")
    assert '<li class="bad" dir="auto">labels [red] &amp; &lt;blue&gt;</li>' in page
    for title in ("Tokens", "Classes", "Object sizes", "Objects per image"):
        assert f"<h3>{title}</h3>" in page


def test_data_without_warnings_has_no_problems(
    inspected: InspectionReport, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_inspection_report(tmp_path, inspected, [], Tiny())
    assert "no problems found" in capfd.readouterr().out
    page = (tmp_path / "inspection.html").read_text(encoding="utf-8")
    assert "<h2>Samples</h2>" in page
    assert "<dt>Source</dt>" in page
    assert "<dt>Target text</dt>" in page
    assert "No problems found." in page
