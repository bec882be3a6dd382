"""The report as a browser shows it."""

from pathlib import Path

import pytest

from palitune.report.page import write

from browser import DESKTOP, PHONE, opened


@pytest.mark.parametrize("window", [PHONE, DESKTOP])
def test_the_report_loads_without_faults_and_fits_the_window(
    finished_run: Path, window: tuple[int, int]
) -> None:
    with opened(write(finished_run), window) as visit:
        assert visit.page.locator("h1").count() == 1
        assert visit.page.locator("img, svg").count() > 0
        assert visit.broken_images() == []
        assert visit.overflow() <= 0
        assert visit.faults == []
