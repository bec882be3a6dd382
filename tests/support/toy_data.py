"""A toy data set in several formats, with the same content: colored rectangles on white.

Splits: train (12 images), validation (4), test (4). Every image is wider than high, no two
rectangles of an image overlap, and a rectangle's label is its color.
"""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from palitune.records import Box, Mask, Size

COLORS = {"blue": (30, 60, 220), "green": (20, 160, 60), "red": (220, 30, 40)}
SPLITS = {"train": 12, "validation": 4, "test": 4}
SIZE = (96, 64)


def write_toy_jsonl(folder: Path) -> Path:
    """Write `{split}.jsonl` and `images/`; each row suits ocr, vqa, caption and detection.

    For the task `text`, map `columns={"prefix": "question", "suffix": "text"}`.
    """
    for split, count in SPLITS.items():
        rows = [_jsonl_row(folder, split, index) for index in range(count)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def write_toy_coco(folder: Path) -> Path:
    """Write `annotations/instances_{split}.json`, `captions_{split}.json` and `images/`."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for split, count in SPLITS.items():
        for kind in ("instances", "captions"):
            written = json.dumps(_coco(folder, split, count, kind))
            (folder / "annotations" / f"{kind}_{split}.json").write_text(written, encoding="utf-8")
    return folder


def toy_mask(size: Size, box: Box) -> Mask:
    """Return an ellipse that fills a box, rounded to pixels, within an image of `size`."""
    x0, y0, x1, y1 = (round(side) for side in box)
    image = Image.new("1", size)
    ImageDraw.Draw(image).ellipse((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), fill=1)
    return np.asarray(image)


def toy_objects(split: str, index: int) -> list[dict[str, Any]]:
    """Return one image's rectangles in reading order: `{"label", "box": [x0, y0, x1, y1]}`."""
    chance = random.Random(f"{split}-{index}")
    width = SIZE[0] // 3
    return [
        {
            "label": chance.choice(sorted(COLORS)),
            "box": [
                column * width + chance.randint(1, 6),
                chance.randint(2, 20),
                column * width + chance.randint(20, width - 1),
                chance.randint(34, SIZE[1] - 2),
            ],
        }
        for column in range(chance.randint(1, 3))
    ]


def _jsonl_row(folder: Path, split: str, index: int) -> dict[str, Any]:
    objects = toy_objects(split, index)
    return {
        "id": f"{split}-{index}",
        "image": draw_toy_image(folder, split, index),
        "question": "how many rectangles are there?",
        "answers": [str(len(objects)), ["one", "two", "three"][len(objects) - 1]],
        "captions": _captions(objects),
        "text": _joined_labels(objects),
        "instances": objects,
    }


def _coco(folder: Path, split: str, count: int, kind: str) -> dict[str, Any]:
    images, annotations = [], []
    for index in range(count):
        name = Path(draw_toy_image(folder, split, index)).name
        images.append({"id": index, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        objects = toy_objects(split, index)
        if kind == "captions":
            annotations += [{"image_id": index, "caption": text} for text in _captions(objects)]
        else:
            annotations += [_coco_instance(index, written) for written in objects]
    numbered = [{"id": number, **annotation} for number, annotation in enumerate(annotations)]
    classes = [{"id": number, "name": name} for number, name in enumerate(sorted(COLORS), 1)]
    categories = {"categories": classes} if kind == "instances" else {}
    return {"images": images, "annotations": numbered, **categories}


def _coco_instance(image: int, toy_object: dict[str, Any]) -> dict[str, Any]:
    x0, y0, x1, y1 = toy_object["box"]
    return {
        "image_id": image,
        "category_id": sorted(COLORS).index(toy_object["label"]) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
    }


def draw_toy_image(folder: Path, split: str, index: int) -> str:
    """Draw the image unless it exists; return its path relative to `folder`."""
    name = f"images/{split}_{index:02d}.png"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    if not (folder / name).exists():
        image = Image.new("RGB", SIZE, "white")
        pen = ImageDraw.Draw(image)
        for written in toy_objects(split, index):
            x0, y0, x1, y1 = written["box"]
            pen.rectangle((x0, y0, x1 - 1, y1 - 1), fill=COLORS[written["label"]])
        image.save(folder / name)
    return name


def _joined_labels(objects: list[dict[str, Any]]) -> str:
    return " ".join(str(written["label"]) for written in objects)


def _captions(objects: list[dict[str, Any]]) -> list[str]:
    return [f"rectangles: {_joined_labels(objects)}", f"a picture of {_joined_labels(objects)}"]
