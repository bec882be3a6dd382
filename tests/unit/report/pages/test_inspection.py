"""Tables of an inspection."""

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
    look = InspectionConfig(
        splits=[], train_split="train", max_length=1000, num_samples=1, codec_samples=0
    )
    data = Coco(path=str(write_toy_coco(tmp_path / "boxes")))
    found = scan(data.dataset_specs(Detection()), processor, look)
    assert inspection_warnings(found, look) != []
    return found


def test_the_overview_has_a_row_for_every_split(inspected: InspectionReport) -> None:
    table = overview_table(inspected.splits)
    assert [row[0] for row in table.rows] == ["train", "validation", "test"]
    assert [row[1] for row in table.rows] == ["12", "4", "4"]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_findings_are_on_the_page_and_in_the_terminal_as_they_are(
    inspected: InspectionReport, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = [
        InspectionWarning("bad", "labels [red] & <blue>"),
        InspectionWarning("odd", "few boats"),
    ]
    write_inspection_report(tmp_path, inspected, told, Tiny())
    said = capfd.readouterr().out
    assert "✗ labels [red] & <blue>" in said
    assert "· few boats" in said
    page = (tmp_path / "inspection.html").read_text(encoding="utf-8")
    assert '<li class="bad" dir="auto">labels [red] &amp; &lt;blue&gt;</li>' in page
    for title in ("Tokens", "Classes", "Sizes of objects", "Objects in an image"):
        assert f"<h3>{title}</h3>" in page


def test_sound_data_is_called_so(
    inspected: InspectionReport, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_inspection_report(tmp_path, inspected, [], Tiny())
    assert "nothing odd was found" in capfd.readouterr().out
    assert "Nothing odd was found." in (tmp_path / "inspection.html").read_text()
