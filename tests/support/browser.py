"""Headless browser for tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

PHONE, DESKTOP = (390, 844), (1280, 900)
"""Width and height of a window, in CSS pixels."""

_CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class BrowserPage:
    """Open page with its errors."""

    def __init__(self, page: Any) -> None:
        self.page = page
        """Page of playwright."""
        self.errors: list[str] = []
        """Console errors, uncaught exceptions, and requests that failed or left the machine."""

    def broken_images(self) -> list[str]:
        """Return the alternative texts of images that did not load."""
        texts: list[str] = self.page.evaluate(
            "async () => { const all = [...document.images];"
            " for (const image of all) { image.loading = 'eager';"
            " await image.decode().catch(() => null); }"
            " return all.filter(i => !i.complete || !i.naturalWidth).map(i => i.alt); }"
        )
        return texts

    def overflow(self) -> int:
        """Return by how many CSS pixels the page is wider than its window."""
        overflow: int = self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        return overflow


@contextmanager
def open_page(file: Path | str, window: tuple[int, int] = DESKTOP) -> Iterator[BrowserPage]:
    """Open a local file, or the address of a server of this machine, in headless Chromium."""
    address = file if isinstance(file, str) else file.absolute().as_uri()
    own = ("file:", "data:", "blob:", *([address] if isinstance(file, str) else []))
    executable = next(filter(None, map(shutil.which, _CHROMIUM_NAMES)), None)
    assert executable, (
        "Chromium is missing. Install it with scripts/test or `apt-get install chromium`."
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": window[0], "height": window[1]})
        visit = BrowserPage(page)
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.on(
            "console",
            lambda message: visit.errors.append(message.text) if message.type == "error" else None,
        )
        page.on("requestfailed", lambda request: visit.errors.append(f"failed: {request.url}"))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(own)
                else visit.errors.append(f"requested {request.url}")
            ),
        )
        page.goto(address)
        yield visit
        browser.close()
