"""Interval plots have a point and an interval per run, the best on top."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from palitune.report.comparison.compare import ComparisonTable, compare_runs
from palitune.report.comparison.interval_plot import draw_interval_plot, sorted_rows
from palitune.report.plots.svg import WIDTH

from support.comparison_runs import STRONG_ANSWERS, WEAK_ANSWERS, write_run


@pytest.fixture
def table(tmp_path: Path) -> ComparisonTable:
    malformed = (None,) * 12
    runs = [
        write_run(tmp_path / "a", WEAK_ANSWERS, rank=8),
        write_run(tmp_path / "b", STRONG_ANSWERS, rank=16),
        write_run(tmp_path / "c", malformed, rank=4, adapter=f'"<b> & {"long " * 12}/x"'),
    ]
    return compare_runs([str(run) for run in runs]).tables[0]


@pytest.mark.parametrize("name", ["exact_match", "character_error_rate"])
def test_the_best_run_is_on_top(name: str, table: ComparisonTable) -> None:
    assert [row.run_part.run.path.name for row in sorted_rows(table, name)] == ["b", "a", "c"]


@pytest.mark.parametrize("name", ["exact_match", "character_error_rate", "malformed"])
def test_a_drawing_is_well_formed_and_inside_its_frame(name: str, table: ComparisonTable) -> None:
    root = ET.fromstring(draw_interval_plot(table, name))
    points = [float(circle.attrib["cx"]) for circle in root.iter("circle")]
    assert len(points) == 3
    assert all(0 <= x <= WIDTH for x in points)
    titles = [title.text or "" for title in root.iter("title")]
    assert any("<b> & long" in title for title in titles)
    assert all(len(text.text or "") <= 44 for text in root.iter("text"))
    hollow = [c for c in root.iter("circle") if "hollow" in c.attrib["class"]]
    assert len(hollow) == 1


def test_intervals_are_whiskers_around_their_points(table: ComparisonTable) -> None:
    root = ET.fromstring(draw_interval_plot(table, "exact_match"))
    groups = [g for g in root.iter("g") if "95 %" in (g.findtext("title") or "")]
    assert len(groups) == 3
    for group in groups:
        (path,), (circle,) = group.findall("path"), group.findall("circle")
        low, high = path.attrib["d"].removeprefix("M").partition("M")[0].split("H")
        assert float(low.split()[0]) <= float(circle.attrib["cx"]) <= float(high)


def test_a_metric_that_no_run_has_is_not_drawn(table: ComparisonTable) -> None:
    assert draw_interval_plot(table, "AP") == ""
