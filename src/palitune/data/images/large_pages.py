"""Large pages with small digits, drawn from the embedded pages for the demo of tiles.

Every digit is cut out of an embedded page of the same split, so no digit of a test page occurs in
training. As a whole image in the model's input of 112 px, a digit is 6 to 8 px high.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from palitune.data.images.receipts import Ink, cut_digits
from palitune.paths import write_atomically

SIZES = {"train": 300, "validation": 20, "test": 40}
"""Pages of each split."""
PAGE_SIZE = 448
DIGITS = (10, 20)
"""Least and largest number of digits of a page."""
DIGIT_HEIGHTS = (22, 32)
"""Least and largest height of a digit in pixels."""
_GAP = 4
"""Least distance of two digits in pixels."""


def draw_large_pages(pages: Path, folder: Path) -> None:
    """Write `{split}_small_objects.json` (COCO) and `images/` unless the folder exists.

    The same pages always give the same large pages.

    Args:
        pages: Folder of an embedded data set.
        folder: Folder of the large pages.
    """
    if folder.is_dir():
        return
    with write_atomically(folder) as temporary:
        (temporary / "images").mkdir(parents=True)
        for split, count in SIZES.items():
            digits, rng = cut_digits(pages, split), random.Random(f"large pages {split}")
            content: dict[str, list[dict[str, Any]]] = {
                "images": [],
                "annotations": [],
                "categories": [{"id": digit + 1, "name": str(digit)} for digit in range(10)],
            }
            for number in range(1, count + 1):
                name = f"images/{split}-{number:03d}.png"
                page, boxes = _draw_page(digits, rng)
                page.save(temporary / name)
                content["images"].append(
                    {"id": number, "file_name": name, "width": PAGE_SIZE, "height": PAGE_SIZE}
                )
                content["annotations"] += [
                    {
                        "id": len(content["annotations"]) + position,
                        "image_id": number,
                        "category_id": digit + 1,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                    for position, (digit, box) in enumerate(boxes, 1)
                ]
            file = temporary / f"{split}_small_objects.json"
            file.write_text(json.dumps(content), encoding="utf-8")


def _draw_page(
    digits: Sequence[Sequence[Ink]], rng: random.Random
) -> tuple[Image.Image, list[tuple[int, list[int]]]]:
    """Draw a page. Return it with its digits and their boxes (x, y, width, height)."""
    ink = np.zeros((PAGE_SIZE, PAGE_SIZE), np.float32)
    taken = np.zeros((PAGE_SIZE, PAGE_SIZE), bool)
    boxes = []
    for _ in range(rng.randint(*DIGITS)):
        digit = rng.randrange(10)
        glyph = _scaled(rng.choice(digits[digit]), rng.randint(*DIGIT_HEIGHTS))
        height, width = glyph.shape
        x, y = rng.randrange(PAGE_SIZE - width), rng.randrange(PAGE_SIZE - height)
        around = taken[max(y - _GAP, 0) : y + height + _GAP, max(x - _GAP, 0) : x + width + _GAP]
        if around.any():
            continue
        around[:] = True
        ink[y : y + height, x : x + width] = glyph
        boxes.append((digit, [x, y, width, height]))
    paper, pen = rng.uniform(215, 255), rng.uniform(0, 80)
    return Image.fromarray(np.uint8(np.round(paper + (pen - paper) * ink))), boxes


def _scaled(ink: Ink, height: int) -> Ink:
    width = max(round(ink.shape[1] * height / ink.shape[0]), 4)
    image = Image.fromarray(np.uint8(ink * 255)).resize((width, height))
    return np.asarray(image, np.float32) / np.float32(255)
