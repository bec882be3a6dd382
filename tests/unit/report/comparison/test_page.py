"""Page of a comparison, as text and in a browser."""

from pathlib import Path

import pytest

from palitune.report.comparison.compare import compare_runs
from palitune.report.comparison.files import write_comparison_files

from support.browser import DESKTOP, PHONE, open_page
from support.comparison_runs import STRONG_ANSWERS, WEAK_ANSWERS, write_run

HOSTILE = '"<script>alert(1)</script>{name}/adapter"'


@pytest.fixture
def page(tmp_path: Path) -> Path:
    runs = [
        write_run(tmp_path / "a", WEAK_ANSWERS, recipe="evaluate"),
        write_run(
            tmp_path / "b", STRONG_ANSWERS, recipe="evaluate", adapter=HOSTILE.format(name="x")
        ),
        write_run(
            tmp_path / "c", WEAK_ANSWERS, recipe="evaluate", adapter=HOSTILE.format(name="y" * 90)
        ),
        write_run(tmp_path / "d", STRONG_ANSWERS, part="vqa", limit="12", torch="2.14.0"),
        write_run(tmp_path / "e", STRONG_ANSWERS, part="vqa", rank=16),
    ]
    return write_comparison_files(compare_runs([str(run) for run in runs]), tmp_path / "out")


def test_a_page_loads_nothing_and_has_no_script(page: Path) -> None:
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http:" not in text
    assert "https:" not in text


@pytest.mark.parametrize("window", [PHONE, DESKTOP])
def test_a_page_loads_without_errors_and_fits_the_window(
    page: Path, window: tuple[int, int]
) -> None:
    with open_page(page, window) as visit:
        assert visit.errors == []
        assert visit.overflow() <= 0
        assert visit.page.locator("figure svg").count() == 4
        assert visit.page.locator(".warnings li").count() == 2
        for details in visit.page.locator("summary").all():
            details.click()
        assert visit.overflow() <= 0
        assert visit.page.locator("#part-1 tbody").first.locator("tr").count() == 3
        reachable = "document.querySelectorAll('.wide-table[tabindex=\"0\"]').length"
        assert visit.page.evaluate(reachable) == visit.page.locator(".wide-table").count()


def test_a_question_mark_beside_a_metric_opens_its_definition(page: Path) -> None:
    with open_page(page, DESKTOP) as visit:
        visit.page.locator("#part-1 .define").first.click()
        opened = visit.page.locator(".definition:popover-open")
        assert opened.count() == 1
        name = opened.locator("strong").inner_text()
        assert name in visit.page.locator("#part-1 thead").first.inner_text().replace("\u200b", "")
