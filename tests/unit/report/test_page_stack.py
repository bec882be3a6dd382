"""Every page beside the report has the same frame."""

import base64
import hashlib
import re
from pathlib import Path

from PIL import Image

from palitune.models.adapters.config import Lora
from palitune.models.config import Local, PaliGemma2, Tiny
from palitune.report.page_stack import make_thumbnail, model_display_name, model_facts, write_page
from palitune.report.pages.gallery import GalleryCard, TextTable

ODD = "<script>alert('\u202e')</script>"


def page(folder: Path, cards: list[GalleryCard]) -> str:
    file = write_page(
        folder / "page.html",
        "predictions.html",
        title=ODD,
        facts=[("model", ODD)],
        sections=[("found", "What was found")],
        counted=TextTable((ODD,), [(ODD,)], ODD),
        kinds=[ODD],
        labels=[ODD],
        note=ODD,
        cards=cards,
    )
    return file.read_text(encoding="utf-8")


def test_no_text_becomes_code_and_only_the_own_script_may_run(tmp_path: Path) -> None:
    picture = make_thumbnail(Image.new("RGB", (8, 8)), ODD)
    texts = {"id": ODD, "kind": ODD, "grade": "", "badge": ODD, "labels": [ODD, "it's"]}
    card = GalleryCard(**texts, thumbnail=picture, texts=[(ODD, ODD)], details=[(ODD, ODD)])  # type: ignore[arg-type]
    written = page(tmp_path, [card])
    assert "\u202e" not in written.replace(r"\u202e", "")
    (script,) = re.findall(r"<script>(.*?)</script>", written, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in written
    assert "default-src 'none'" in written


def test_a_thumbnail_is_inside_the_page() -> None:
    picture = make_thumbnail(Image.new("RGB", (30, 20)), "a boat")
    assert picture.data_uri.startswith("data:image/webp;base64,")
    assert (picture.width, picture.height, picture.alt) == (30, 20, "a boat")


def test_a_model_is_named_without_the_folders_above_it() -> None:
    assert model_display_name(PaliGemma2()) == "google/paligemma2-3b-pt-224"
    assert model_display_name(Local(path="/home/me/boats-base")) == "local (boats-base)"
    assert model_display_name(Tiny()) == "tiny (tiny_model)"
    assert model_facts(PaliGemma2(), Lora()) == [
        ("model", "google/paligemma2-3b-pt-224"),
        ("adapter", "none: the base model"),
    ]
    assert model_facts(PaliGemma2(), Lora(path="run/adapter"))[1] == ("adapter", "run/adapter")
