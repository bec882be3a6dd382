"""Take the pictures of README and site from the pages of real runs.

    palitune finetune experiment=quickstart output_dir=outputs/quickstart
    palitune finetune experiment=quickstart adapter.rank=4 output_dir=outputs/small
    palitune compare outputs/quickstart outputs/small output_dir=outputs/compared
    palitune inspect data=handwriting task=detection model=tiny output_dir=outputs/inspected
    python scripts/build/pictures.py outputs

needs Chromium. A page that is not there is left out.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parents[2] / "docs"
WIDTH = 1100


def take_pictures(outputs: Path, browser: Any) -> None:
    """Write one PNG per page into docs/."""
    pictures = {
        "report.png": ("quickstart/report.html", 1480),
        "comparison.png": ("compared/comparison.html", 1000),
        "inspection.png": ("inspected/inspection.html", 1300),
    }
    for name, (file, height) in pictures.items():
        if (outputs / file).is_file():
            page = open_page(browser, outputs / file)
            top = {"x": 0, "y": 0, "width": WIDTH, "height": height}
            page.screenshot(path=DOCS / name, full_page=True, clip=top)
    if (report := outputs / "quickstart/report.html").is_file():
        page = open_page(browser, report)
        page.select_option("#examples select[name=part]", "detection")
        page.wait_for_timeout(500)
        box = page.locator("#examples").bounding_box()
        clip = {"x": 0, "y": box["y"], "width": WIDTH, "height": 900}
        page.screenshot(path=DOCS / "examples.png", full_page=True, clip=clip)


def open_page(browser: Any, file: Path) -> Any:
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.goto(file.absolute().as_uri())
    page.wait_for_timeout(500)  # images are decoded
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("outputs", type=Path, help="folder of the runs")
    arguments = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        take_pictures(arguments.outputs, browser)


if __name__ == "__main__":
    main()
