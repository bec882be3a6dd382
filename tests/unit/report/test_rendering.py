"""Pages are self-contained: texts stay texts, and only the page's own script may run."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from PIL import Image

from palitune.report import rendering
from palitune.report.images.inline import encode_image
from palitune.report.pages.cards import ExampleCard, plain_text
from palitune.report.rendering import render_template, write_page
from palitune.report.tables import TextTable

HOSTILE = "<script>alert('\u202e')</script>"


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(rendering, "_ASSETS", tmp_path)
    template = "{{ style }}|{{ script }}|{{ script_hash }}|{{ text }}"
    for name in ("page.html", "card.md"):
        (tmp_path / name).write_text(template)
    (tmp_path / "a.css").write_text("a > b {}")
    (tmp_path / "b.css").write_text("c {}")
    (tmp_path / "do.js").write_text("1 < 2")
    return tmp_path


@pytest.mark.usefixtures("assets")
def test_styles_and_script_are_inserted_unchanged_and_texts_escaped() -> None:
    digest = base64.b64encode(hashlib.sha256(b"1 < 2").digest()).decode()
    page = render_template("page.html", {"text": "<b>"}, ("a.css", "b.css"), "do.js")
    assert page == f"a > b {{}}\nc {{}}|1 < 2|{digest}|&lt;b&gt;"


@pytest.mark.usefixtures("assets")
def test_a_page_may_have_no_script() -> None:
    assert render_template("page.html", {"text": "x"}, ("a.css",)).startswith("a > b {}||")


@pytest.mark.usefixtures("assets")
def test_markdown_is_not_escaped_but_printable() -> None:
    assert render_template("card.md", {"text": "<b>\x00"}).endswith(r"|<b>\u0000")


def test_no_text_becomes_code_and_only_the_own_script_may_run(tmp_path: Path) -> None:
    card = ExampleCard(
        id=HOSTILE,
        part=HOSTILE,
        badge=HOSTILE,
        labels=(HOSTILE, "it's"),
        images=(encode_image(Image.new("RGB", (8, 8)), HOSTILE),),
        prefix=HOSTILE,
        texts=(plain_text(HOSTILE, HOSTILE),),
        details=((HOSTILE, HOSTILE),),
    )
    content = {
        "title": HOSTILE,
        "facts": [("model", HOSTILE)],
        "sections": [("summary", "Summary"), ("images", HOSTILE)],
        "summary": TextTable((HOSTILE,), [(HOSTILE,)], HOSTILE),
        "note": HOSTILE,
        "cards": [card],
    }
    file = write_page(tmp_path / "page.html", "predictions.html", content, script="page.js")
    page = file.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "\u202e" not in page
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert "default-src 'none'" in page
