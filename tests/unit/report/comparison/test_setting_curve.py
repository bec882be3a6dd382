"""Curves over the only numeric setting in which runs differ."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from palitune.report.comparison.compare import ComparisonTable, compare_runs
from palitune.report.comparison.files import write_comparison_files
from palitune.report.comparison.setting_curve import draw_setting_curve, varied_setting

from support.browser import DESKTOP, PHONE, open_page
from support.comparison_runs import STRONG_ANSWERS, WEAK_ANSWERS, write_run


def runs_of(folder: Path, ranks: list[int], seeds: int = 1) -> list[str]:
    runs = []
    for rank in ranks:
        for seed in range(seeds):
            answers = STRONG_ANSWERS if rank > 8 else WEAK_ANSWERS
            run = write_run(folder / f"{rank}-{seed}", answers, rank=rank)
            config = (run / "config.yaml").read_text()
            (run / "config.yaml").write_text(f"{config}seed: {seed}\n")
            runs.append(str(run))
    return runs


def table_of(runs: list[str]) -> ComparisonTable:
    return compare_runs(runs, bootstrap_samples=0).tables[0]


def test_a_curve_connects_the_means_over_seeds_and_is_logarithmic_for_a_wide_range(
    tmp_path: Path,
) -> None:
    table = table_of(runs_of(tmp_path, [4, 16, 64], seeds=2))
    assert varied_setting(table) == "adapter.rank"
    root = ET.fromstring(draw_setting_curve(table, "exact_match", "adapter.rank"))
    positions = sorted({float(circle.attrib["cx"]) for circle in root.iter("circle")})
    assert len(list(root.iter("circle"))) == 6
    assert positions[1] - positions[0] == pytest.approx(positions[2] - positions[1], abs=0.2)
    texts = [text.text for text in root.iter("text")]
    assert {"4", "16", "64"} <= set(texts)
    lines = [p.attrib["d"] for p in root.iter("path") if p.attrib["d"].count("L") == 2]
    assert len(lines) == 1


def test_no_curve_is_drawn_of_two_values_or_two_settings(tmp_path: Path) -> None:
    assert varied_setting(table_of(runs_of(tmp_path, [4, 16], seeds=2))) is None
    others = [
        str(write_run(tmp_path / str(rank), WEAK_ANSWERS, rank=rank, data=f"d{rank}", part="ocr"))
        for rank in (1, 2, 3)
    ]
    assert varied_setting(table_of(others)) is None
    table = table_of(runs_of(tmp_path / "more", [1, 2, 3]))
    assert draw_setting_curve(table, "AP", "adapter.rank") == ""


def test_a_value_without_interval_is_a_point(tmp_path: Path) -> None:
    table = table_of(runs_of(tmp_path, [4, 16, 64]))
    for row in table.rows:
        row.metric_values["exact_match"] = replace(
            row.metric_values["exact_match"], intervals=(None, None, None)
        )
    root = ET.fromstring(draw_setting_curve(table, "exact_match", "adapter.rank"))
    assert len(list(root.iter("circle"))) == 3


@pytest.mark.parametrize("window", [PHONE, DESKTOP])
def test_a_page_with_curves_fits_the_window(tmp_path: Path, window: tuple[int, int]) -> None:
    page = write_comparison_files(compare_runs(runs_of(tmp_path, [16, 64, 256])), tmp_path / "out")
    with open_page(page, window) as visit:
        assert visit.errors == []
        assert visit.overflow() <= 0
        captions = visit.page.locator("figcaption").all_inner_texts()
        assert sum("over adapter.rank" in caption for caption in captions) == 2
        cut = visit.page.evaluate(
            "[...document.querySelectorAll('svg text')].filter(t => {"
            " const a = t.getBoundingClientRect(), b = t.ownerSVGElement.getBoundingClientRect();"
            " return a.width && (a.right > b.right + .5 || a.left < b.left - .5);"
            "}).map(t => t.textContent)"
        )
        assert cut == []
