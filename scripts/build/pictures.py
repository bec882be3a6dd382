"""Take the pictures of README and site from the pages of real runs.

    palitune finetune experiment=quickstart output_dir=outputs/quickstart
    palitune finetune experiment=quickstart adapter.rank=4 output_dir=outputs/small
    palitune compare outputs/quickstart outputs/small output_dir=outputs/compared
    palitune inspect data=handwriting task=detection model=tiny output_dir=outputs/inspected
    palitune finetune experiment=receipts_demo output_dir=outputs/receipts
    palitune serve --run outputs/receipts port=8000 &
    python scripts/build/pictures.py outputs --server http://127.0.0.1:8000

needs Chromium. A page that is not there is left out.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from palitune.data.sources.embedded import EmbeddedAnnotationKind, Handwriting

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


def take_playground(address: str, browser: Any) -> None:
    """Ask adapter and base for the fields of a receipt, and write playground.png."""
    receipts = Handwriting(annotations=EmbeddedAnnotationKind.json)
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.goto(address)
    page.wait_for_selector("#adapters input >> nth=1")
    page.set_input_files("#file", receipts.resolved_path() / "images" / "test-0000.png")
    page.fill("#prompt", "extract json")
    page.check("#adapters input[value=base]")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".answer:nth-child(2)")
    page.wait_for_timeout(500)
    page.screenshot(path=DOCS / "playground.png", full_page=True)


def open_page(browser: Any, file: Path) -> Any:
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.goto(file.absolute().as_uri())
    page.wait_for_timeout(500)  # images are decoded
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("outputs", type=Path, help="folder of the runs")
    parser.add_argument("--server", help="address of `palitune serve` for the playground")
    arguments = parser.parse_args()
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        take_pictures(arguments.outputs, browser)
        if arguments.server:
            take_playground(arguments.server, browser)


if __name__ == "__main__":
    main()
