"""Images that a benchmark wants otherwise than its files have them: kept in the cache.

Imports Pillow inside, as sources are imported by every command.
"""

import csv
import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.data.benchmarks.layout import Record
from palitune.data.images.extracted import extract_to_cache
from palitune.errors import DataError

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

_MAX_FONT_SIZE = 100
"""Pixels of the largest letter, as in big_vision's `ai2d.py`."""


def draw_choice_letters(record: Record, path: str) -> str | None:
    """Return the diagram with letters in place of its words, for a question about letters."""
    if not record["abcLabel"]:
        return None
    from PIL import ImageDraw

    from palitune.data.images.io import open_image

    image = open_image(path)
    pen = ImageDraw.Draw(image)
    for text in json.loads(Path(record["boxes"]).read_bytes())["text"].values():
        (x0, y0), (x1, y1) = text["rectangle"]
        pen.rectangle((x0, y0, x1, y1), fill="white")
        _draw_letter(pen, text["replacementText"], (x0, y0, x1, y1))
    return _save_to_cache(image, "PNG")


def _draw_letter(pen: "ImageDraw.ImageDraw", letter: str, box: tuple[float, ...]) -> None:
    """Write a letter as large as its box allows, at the top and centred."""
    from PIL import ImageFont

    x0, y0, x1, y1 = box
    for size in range(_MAX_FONT_SIZE, 0, -1):
        font = ImageFont.load_default(size)
        _, _, width, height = font.getbbox(letter)
        if width <= x1 - x0 and height <= y1 - y0:
            break
    pen.text((x0 + (x1 - x0 - width) // 2, y0), letter, fill="black", font=font)


def read_rotations(file: Path) -> dict[str, int]:
    """Read how many quarter turns to the left bring images upright, by image id: Open Images' csv.

    Raises DataError where the file is not there or another one.
    """
    if not file.is_file():
        raise DataError(
            f"{file} does not exist; it is Open Images' {{train,test}}-images-boxable-with-"
            "rotation.csv (storage.googleapis.com/openimages/2018_04); set data.rotations=null to "
            "take images as they are"
        )
    turns = {}
    with file.open(encoding="utf-8", newline="") as content:
        for row in csv.DictReader(content):
            if "ImageID" not in row or "Rotation" not in row:
                raise DataError(f"{file}: no columns ImageID and Rotation; take Open Images' own")
            if quarter := int(float(row["Rotation"] or 0)) // 90 % 4:
                turns[row["ImageID"]] = quarter
    return turns


def rotate_image(path: str, quarter_turns: int) -> str:
    """Return an image turned to the left by quarters, as a JPEG of the best quality."""
    from PIL import Image

    from palitune.data.images.io import open_image

    left = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    return _save_to_cache(open_image(path).transpose(left[quarter_turns - 1]), "JPEG", quality=100)


def pad_to_square(_: Record, path: str) -> str | None:
    """Return the image with white at its right or below, so that it is square."""
    from PIL import Image

    from palitune.data.images.io import open_image, read_size

    size = read_size(path)
    if size[0] == size[1]:
        return None
    square = Image.new("RGB", (max(size), max(size)), "white")
    square.paste(open_image(path))
    return _save_to_cache(square, "PNG")


def _save_to_cache(image: "Image.Image", image_format: str, **save_options: int) -> str:
    written = BytesIO()
    image.save(written, image_format, **save_options)
    return extract_to_cache(written.getvalue())
