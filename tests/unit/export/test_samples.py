"""Selection of the examples of the parity check."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from palitune.export import samples
from palitune.export.config import ExportConfig
from palitune.export.samples import select_parity_examples


def test_components_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = [SimpleNamespace(examples=list(names)) for names in ("abc", "x", "pq")]
    monkeypatch.setattr(samples, "load_split", lambda *_, **__: datasets)
    source: Any = "a dataset"
    assert select_parity_examples(ExportConfig(samples=5), source, None, "test") == list("axpbq")
    assert select_parity_examples(ExportConfig(samples=9), source, None, "test") == list("axpbqc")


def test_an_image_takes_precedence_over_data_and_the_default_is_a_page_of_digits(
    tmp_path: Path,
) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "boat.png")
    settings = ExportConfig(image=str(tmp_path / "boat.png"), prompt="detect boat")
    source: Any = "a dataset"
    [example] = select_parity_examples(settings, source, None, "test")
    assert (example.prefix, example.size) == ("detect boat", (30, 20))
    [page] = select_parity_examples(ExportConfig(), None, None, "test")
    assert (page.prefix, page.size) == ("caption en", (112, 112))
