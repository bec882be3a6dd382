"""Compose an embedded data set: pages of handwritten or printed digits, with their annotations.

    python scripts/build/demo_data.py handwriting --output src/palitune/embedded/handwriting
    python scripts/build/demo_data.py print --output src/palitune/embedded/print

The handwriting is real: the UCI optical digits that scikit-learn contains. Training, validation and
test pages use disjoint ranges of them. The printed pages resemble the training data of the embedded
model, in the same fonts (matplotlib's) and other variants of them, and show what it forgets. The
same command writes the same bytes every time.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

from synthetic_pages import (
    GLYPH_HEIGHTS,
    PAGE_SIZE,
    QUESTION_COUNT,
    QUESTION_LARGEST,
    SQUARED_PAPER,
    Box,
    Distortion,
    Glyph,
    Page,
    compose_page,
    distort,
    handwritten_digits,
    ocr_text,
    present_labels,
    printed_glyphs,
    random_page,
)

DIGIT_COUNTS = {1: 0.15, 2: 0.3, 3: 0.55}
"""How often a page carries so many digits."""
CROWDED_COUNTS = {4: 1.0, 5: 1.0, 6: 1.0}
"""As often each, on training pages without boxes: a page full of digits teaches each of them, in as
many tokens as one with a single digit."""

PAGES = {"train": 650, "validation": 150, "test": 360}
CROWDED_PAGES = {"train": 380, "validation": 0, "test": 0}
"""Further pages, which have a reading and questions, but no boxes."""
PRINTED_PAGES = {"train": 150, "validation": 30, "test": 180}

COUNT_QUESTION_INTERVAL = 10
"""One in this number of training pages also has the question for the number of digits."""

TRAINING_DISTORTION = Distortion(degrees=6, shear=0.1, log_aspect=0.08)
"""A training digit is used about twice; a slight distortion makes the two differ."""

ATTRIBUTION = """# Handwritten digits

The pages in `images/` are composed of handwritten digits from

> E. Alpaydin, C. Kaynak (1998). *Optical Recognition of Handwritten Digits* [data set].
> UCI Machine Learning Repository. https://doi.org/10.24432/C50P49

licensed under [CC BY 4.0](https://creativecommons.org/licenses/by/4.0/), in the form in which
scikit-learn carries them (`sklearn.datasets.load_digits`: 1797 digits of 8 x 8 pixels with 17 gray
levels). The pages are licensed under CC BY 4.0 too.

## What was changed

`scripts/build/demo_data.py` enlarged each digit with bicubic interpolation, raised its contrast,
cropped it to its ink, scaled it to a random height of {low} to {high} pixels, and put {counts}
digits on squared paper of {size} x {size} pixels with random gray levels. All digits of a row
share their top edge. Digits of training pages were also rotated by up to {degrees:g} degrees,
sheared by up to {shear:g} and stretched by up to {stretch:.0%}; those of the other pages were not.
The last {crowded} training pages carry {more} digits, and have no boxes. The masks in the
annotation files are the pixels that are at least half covered with ink.

Digits are taken in the order of the file and no digit is in two splits:

| split | pages | digits it is composed of |
|---|---|---|
| train | {train} | the first 60 % |
| validation | {validation} | the next 10 % |
| test | {test} | the last 30 % |

The data set does not say who wrote which digit, so a writer may be in two splits.
"""


def compose_pages(split: str) -> Iterator[Page]:
    """Yield pages of one split; every digit is used once before any is used again."""
    rng = random.Random(f"handwriting {split}")
    distortion = TRAINING_DISTORTION if split == "train" else Distortion()
    digits = handwritten_digits(split)
    deck: list[tuple[int, Glyph]] = []
    for counts in [DIGIT_COUNTS] * PAGES[split] + [CROWDED_COUNTS] * CROWDED_PAGES[split]:
        count = rng.choices(list(counts), list(counts.values()))[0]
        if len(deck) < count:
            deck += rng.sample(digits, len(digits))
        dealt = [deck.pop(0) for _ in range(count)]
        glyphs = [(label, distort(ink, distortion, rng)) for label, ink in dealt]
        yield compose_page(glyphs, rng, SQUARED_PAPER)


def print_pages(split: str, number: int) -> Iterator[Page]:
    """Yield printed pages of one split, with glyphs that the model was not trained on."""
    seed = {"train": 2000, "validation": 2001, "test": 2002}[split]
    rng, glyphs = random.Random(f"print {split}"), printed_glyphs(4, seed)
    for _ in range(number):
        count = rng.choices(list(DIGIT_COUNTS), list(DIGIT_COUNTS.values()))[0]
        yield random_page(glyphs, count, rng)


def write_split(
    folder: Path, split: str, composed: Iterable[Page], num_boxed: int, *, masks: bool
) -> None:
    """Write images and the three annotation files of one split.

    The first `boxed` pages have boxes, with `masks` or without.
    """
    pages = {f"{split}-{index:04d}": page for index, page in enumerate(composed, 1)}
    for name, page in pages.items():
        Image.fromarray(page.image).save(folder / image_path(name), optimize=True)
    write_jsonl(folder / f"{split}_ocr.jsonl", ocr_rows(pages))
    counted = COUNT_QUESTION_INTERVAL if split == "train" else 1
    write_jsonl(folder / f"{split}_vqa.jsonl", vqa_rows(pages, counted))
    pages = dict(islice(pages.items(), num_boxed))
    instances = json.dumps(coco_instances(pages, masks), separators=(",", ":"))
    (folder / f"{split}_instances.json").write_text(instances + "\n", encoding="utf-8")


def image_path(name: str) -> str:
    """Return the path of a page's image, relative to the data set's folder."""
    return f"images/{name}.png"


def ocr_rows(pages: dict[str, Page]) -> Iterator[dict[str, Any]]:
    """Yield one row per page: its digits in reading order."""
    for name, page in pages.items():
        yield {"id": name, "image": image_path(name), "text": ocr_text(page)}


def vqa_rows(pages: dict[str, Page], count_interval: int) -> Iterator[dict[str, Any]]:
    """Yield the largest digit of every page, and of every `counted`-th how many there are."""
    for number, (name, page) in enumerate(pages.items()):
        questions = {
            "largest": (QUESTION_LARGEST, present_labels(page)[-1]),
            "count": (QUESTION_COUNT, len(page.digits)),
        }
        for kind, (question, answer) in questions.items():
            if kind == "count" and number % count_interval:
                continue
            yield {
                "id": f"{name}-{kind}",
                "image": image_path(name),
                "question": question,
                "answers": [str(answer)],
            }


def coco_instances(pages: dict[str, Page], masks: bool) -> dict[str, Any]:
    """Return boxes, with `masks` or without, in the COCO instances format.

    Boxes are xywh in pixels, masks compressed run lengths; ids count from 1.
    """
    images, annotations = [], []
    for image_id, (name, page) in enumerate(pages.items(), 1):
        images.append(
            {
                "id": image_id,
                "file_name": image_path(name),
                "width": PAGE_SIZE,
                "height": PAGE_SIZE,
            }
        )
        for digit in page.digits:
            x0, y0, x1, y1 = digit.box
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image_id,
                "category_id": digit.label + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
            if masks:
                annotation["segmentation"] = digit_mask(page.ink, digit.box)
            annotations.append(annotation)
    categories = [{"id": digit + 1, "name": str(digit)} for digit in range(10)]
    return {"images": images, "annotations": annotations, "categories": categories}


def digit_mask(ink: Glyph, box: Box) -> dict[str, Any]:
    """Return the pixels in a box that are at least half covered with ink, as run lengths."""
    x0, y0, x1, y1 = box
    inside = np.zeros(ink.shape, np.uint8, order="F")
    inside[y0:y1, x0:x1] = ink[y0:y1, x0:x1] >= 0.5
    counts = run_lengths.encode(inside)["counts"].decode("ascii")
    return {"size": list(ink.shape), "counts": counts}


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")


def format_attribution() -> str:
    """Return the source of the digits and the changes made to them, as Markdown."""
    return ATTRIBUTION.format(
        low=GLYPH_HEIGHTS[0],
        high=GLYPH_HEIGHTS[1],
        counts=f"{min(DIGIT_COUNTS)} to {max(DIGIT_COUNTS)}",
        size=PAGE_SIZE,
        degrees=TRAINING_DISTORTION.degrees,
        shear=TRAINING_DISTORTION.shear,
        stretch=TRAINING_DISTORTION.log_aspect,
        crowded=CROWDED_PAGES["train"],
        more=f"{min(CROWDED_COUNTS)} to {max(CROWDED_COUNTS)}",
        **{split: PAGES[split] + CROWDED_PAGES[split] for split in PAGES},
    )


def main() -> None:
    """Write the data set to a temporary folder, then move it into place."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("digits", choices=["handwriting", "print"])
    parser.add_argument("--output", type=Path, required=True, help="folder of the data set")
    arguments = parser.parse_args()
    output: Path = arguments.output
    unfinished = output.with_name(output.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "images").mkdir(parents=True)
    if arguments.digits == "handwriting":
        for split, number in PAGES.items():
            write_split(unfinished, split, compose_pages(split), number, masks=True)
        (unfinished / "ATTRIBUTION.md").write_text(format_attribution(), encoding="utf-8")
    else:
        for split, number in PRINTED_PAGES.items():
            write_split(unfinished, split, print_pages(split, number), number, masks=False)
    shutil.rmtree(output, ignore_errors=True)
    unfinished.rename(output)
    files = [path for path in output.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{len(files)} files, {size / 1e6:.2f} MB in {output}")


if __name__ == "__main__":
    main()
