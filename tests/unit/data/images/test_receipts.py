"""Receipts drawn from the embedded digits: the same each time, and true to their fields."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palitune.data.images import receipts
from palitune.data.sources.embedded import EMBEDDED_FOLDER, EmbeddedAnnotationKind, Handwriting

PAGES = EMBEDDED_FOLDER / "handwriting"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "SIZES", {"validation": 12})


@pytest.mark.usefixtures("few")
def test_the_same_pages_give_the_same_receipts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        receipts.draw_receipts(PAGES, tmp_path / name)
    first, second = (sorted(p for p in (tmp_path / n).rglob("*") if p.is_file()) for n in "ab")
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]
    assert len(first) == 13


@pytest.mark.usefixtures("few")
def test_a_total_is_the_sum_of_its_prices_and_has_two_digits(tmp_path: Path) -> None:
    receipts.draw_receipts(PAGES, tmp_path / "r")
    lines = [json.loads(line) for line in (tmp_path / "r/validation_json.jsonl").open()]
    assert {len(line["json"]["prices"]) for line in lines} == {1, 2}
    for line in lines:
        assert sum(line["json"]["prices"]) == line["json"]["total"] in range(10, 100)
        assert Image.open(tmp_path / "r" / line["image"]).size == (112, 112)


def test_every_amount_has_a_line_of_its_own() -> None:
    """Ink of a single figure, a full square, shows where amounts are drawn."""
    digits = [[np.ones((10, 6), np.float32)]] * 10
    for prices in ([12], [12, 34]):
        page = np.asarray(receipts.draw_receipt(prices, digits, random.Random(0)), np.int64)
        inked = (page < page.max() - 20).any(axis=1).astype(int)
        assert (np.diff(np.pad(inked, 1)) == 1).sum() == len(prices) + 2  # amounts and the line


def test_no_digit_of_a_split_occurs_in_another() -> None:
    digits = {split: receipts.cut_digits(PAGES, split) for split in ("test", "validation")}
    known = {ink.tobytes() for bank in digits["test"] for ink in bank}
    assert all(bank for bank in digits["validation"])
    assert not any(ink.tobytes() in known for bank in digits["validation"] for ink in bank)


@pytest.mark.usefixtures("few")
def test_the_task_json_reads_receipts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALITUNE_CACHE", str(tmp_path))
    source = Handwriting(annotations=EmbeddedAnnotationKind.json)
    [file] = source.resolved_path().glob("validation_json.jsonl")
    rows = list(source.read(file, "validation"))
    assert json.loads(rows[0].json or "")["total"] >= 10
