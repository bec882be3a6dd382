"""Receipts drawn from the digits of the embedded pages, for the demo of documents to JSON.

A receipt has one or two prices below each other, a line, and their total. Every digit is cut out of
an embedded page of the same split, so no digit of a test receipt occurs in training.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from palitune.paths import write_atomically

SIZES = {"train": 1000, "validation": 100, "test": 200}
"""Receipts of each split."""
PAGE_SIZE = 112
PRICES = (10, 49)
"""Least and largest price; the total of two has two digits."""

_ROW_TOPS, _LINE_TOP, _DIGIT_HEIGHT, _MAX_DIGIT_WIDTH = (3, 37, 77), 72, 30, 28
_RIGHT_EDGE, _JITTER = 100, 3
_MIN_INK = 0.3
"""Ink below this share is paper or a line of squared paper."""

Ink = NDArray[np.float32]
"""Ink coverage of a digit: (height, width) in [0, 1]."""


def draw_receipts(pages: Path, folder: Path) -> None:
    """Write `{split}_json.jsonl` and `images/` unless the folder exists.

    The same pages always give the same receipts.

    Args:
        pages: Folder of an embedded data set.
        folder: Folder of the receipts.
    """
    if folder.is_dir():
        return
    with write_atomically(folder) as temporary:
        (temporary / "images").mkdir(parents=True)
        for split, count in SIZES.items():
            digits, rng = cut_digits(pages, split), random.Random(f"receipts {split}")
            lines = [
                _write_receipt(temporary, f"{split}-{n:04d}", digits, rng) for n in range(count)
            ]
            (temporary / f"{split}_json.jsonl").write_text("".join(lines), encoding="utf-8")


def cut_digits(pages: Path, split: str) -> list[list[Ink]]:
    """Return the ink of all digits of a split, by digit."""
    content = json.loads((pages / f"{split}_instances.json").read_text(encoding="utf-8"))
    names = {category["id"]: int(category["name"]) for category in content["categories"]}
    levels = {
        image["id"]: np.asarray(Image.open(pages / image["file_name"]).convert("L"), np.float32)
        for image in content["images"]
    }
    digits: list[list[Ink]] = [[] for _ in range(10)]
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        page = levels[annotation["image_id"]]
        digits[names[annotation["category_id"]]].append(_ink(page[y : y + height, x : x + width]))
    return digits


def draw_receipt(
    prices: Sequence[int], digits: Sequence[Sequence[Ink]], rng: random.Random
) -> Image.Image:
    """Draw prices, a line and their total, right-aligned.

    Args:
        prices: One or two prices of two digits.
        digits: Ink of each digit to choose from, by digit.
        rng: Source of the choice and of small shifts.
    """
    ink = np.zeros((PAGE_SIZE, PAGE_SIZE), np.float32)
    amounts = [*prices, sum(prices)]
    tops = [*_ROW_TOPS[: len(prices)], _ROW_TOPS[-1]]
    for amount, row_top in zip(amounts, tops, strict=True):
        right = _RIGHT_EDGE + rng.randint(-_JITTER, _JITTER)
        top = row_top + rng.randint(0, _JITTER)
        for figure in reversed(str(amount)):
            glyph = _scaled(rng.choice(digits[int(figure)]))
            height, width = glyph.shape
            area = ink[top : top + height, right - width : right]
            np.maximum(area, glyph, out=area)
            right -= width + rng.randint(2, 5)
    ink[_LINE_TOP : _LINE_TOP + 2, 30:_RIGHT_EDGE] = 1
    paper, pen = rng.uniform(215, 255), rng.uniform(0, 80)
    return Image.fromarray(np.uint8(np.round(paper + (pen - paper) * ink)))


def _write_receipt(
    folder: Path, name: str, digits: Sequence[Sequence[Ink]], rng: random.Random
) -> str:
    """Write the image of a random receipt. Return its line of JSON."""
    prices = [rng.randint(*PRICES) for _ in range(rng.choice((1, 2)))]
    draw_receipt(prices, digits, rng).save(folder / "images" / f"{name}.png")
    fields = {"prices": prices, "total": sum(prices)}
    return json.dumps({"id": name, "image": f"images/{name}.png", "json": fields}) + "\n"


def _ink(levels: Ink) -> Ink:
    """Return the ink of a digit from its gray levels, cropped to it."""
    paper, pen = np.quantile(levels, 0.9), levels.min()
    ink = np.clip((paper - levels) / max(paper - pen, 1), 0, 1)
    ink = np.where(ink < _MIN_INK, 0, ink)
    rows, columns = np.nonzero(ink > 0.5)
    cropped: Ink = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return cropped.astype(np.float32)


def _scaled(ink: Ink) -> Ink:
    width = min(max(round(ink.shape[1] * _DIGIT_HEIGHT / ink.shape[0]), 5), _MAX_DIGIT_WIDTH)
    image = Image.fromarray(np.uint8(ink * 255)).resize((width, _DIGIT_HEIGHT))
    return np.asarray(image, np.float32) / np.float32(255)
