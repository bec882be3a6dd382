"""The templates of all pages."""

import base64
import hashlib
from pathlib import Path

import pytest

import palitune.report.templates as templates
from palitune.report.templates import render_template


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(templates, "_ASSETS", tmp_path)
    (tmp_path / "page.html").write_text("{{ style }}|{{ script }}|{{ script_hash }}|{{ said }}")
    (tmp_path / "a.css").write_text("a > b {}")
    (tmp_path / "b.css").write_text("c {}")
    (tmp_path / "do.js").write_text("1 < 2")
    return tmp_path


def test_styles_and_script_are_put_in_as_they_are_and_texts_escaped(folder: Path) -> None:
    digest = base64.b64encode(hashlib.sha256(b"1 < 2").digest()).decode()
    page = render_template("page.html", {"said": "<b>"}, ("a.css", "b.css"), "do.js")
    assert page == f"a > b {{}}\nc {{}}|1 < 2|{digest}|&lt;b&gt;"


def test_a_page_may_have_no_script(folder: Path) -> None:
    assert render_template("page.html", {"said": "x"}, ("a.css",)).startswith("a > b {}||")
