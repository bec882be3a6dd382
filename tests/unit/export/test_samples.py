"""What an export is compared on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from palitune import data
from palitune.export.config import ExportConfig
from palitune.export.samples import select_parity_examples


def test_parts_are_dealt_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [SimpleNamespace(examples=list(names)) for names in ("abc", "x", "pq")]
    monkeypatch.setattr(data, "load_split", lambda *_, **__: parts)
    source: Any = "annotated"
    assert select_parity_examples(ExportConfig(samples=5), source, None, "test") == list("axpbq")
    assert select_parity_examples(ExportConfig(samples=9), source, None, "test") == list("axpbqc")


def test_an_image_of_ones_own_goes_before_data_and_without_both_there_is_a_page(
    tmp_path: Path,
) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "boat.png")
    settings = ExportConfig(image=str(tmp_path / "boat.png"), prompt="detect boat")
    unread: Any = "annotated"
    [one] = select_parity_examples(settings, unread, None, "test")
    assert (one.prefix, one.size) == ("detect boat", (30, 20))
    [page] = select_parity_examples(ExportConfig(), None, None, "test")
    assert (page.prefix, page.size) == ("caption en", (112, 112))
