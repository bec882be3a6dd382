"""Changed copies of benchmark images: rotated, padded or with letters; written to the cache."""

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
"""Height of the largest letter in pixels, as in big_vision's `ai2d.py`."""


def draw_choice_letters(record: Record, path: str) -> str | None:
    """Return the diagram with letters instead of words; None if its question has no letters."""
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
    """Draw a letter at the top center of a box, in the largest size that fits."""
    from PIL import ImageFont

    x0, y0, x1, y1 = box
    for size in range(_MAX_FONT_SIZE, 0, -1):
        font = ImageFont.load_default(size)
        _, _, width, height = font.getbbox(letter)
        if width <= x1 - x0 and height <= y1 - y0:
            break
    pen.text((x0 + (x1 - x0 - width) // 2, y0), letter, fill="black", font=font)


def read_rotations(file: Path) -> dict[str, int]:
    """Return the counterclockwise quarter turns that make images upright, by image id.

    Raises DataError if the file is not the CSV file of rotations of Open Images.
    """
    if not file.is_file():
        raise DataError(
            f"{file} does not exist. Download {{train,test}}-images-boxable-with-rotation.csv from "
            "storage.googleapis.com/openimages/2018_04, or set data.rotations=null to keep images "
            "as they are."
        )
    turns = {}
    with file.open(encoding="utf-8", newline="") as content:
        for row in csv.DictReader(content):
            if "ImageID" not in row or "Rotation" not in row:
                raise DataError(
                    f"{file}: file must have the columns ImageID and Rotation, got "
                    f"{', '.join(map(str, row))}. Download it from Open Images."
                )
            if quarter := int(float(row["Rotation"] or 0)) // 90 % 4:
                turns[row["ImageID"]] = quarter
    return turns


def rotate_image(path: str, quarter_turns: int) -> str:
    """Return a JPEG of quality 100 of an image rotated counterclockwise by 1 to 3 quarter turns."""
    from PIL import Image

    from palitune.data.images.io import open_image

    rotations = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
    return _save_to_cache(
        open_image(path).transpose(rotations[quarter_turns - 1]), "JPEG", quality=100
    )


def pad_to_square(_: Record, path: str) -> str | None:
    """Return the image padded with white at the right or below; None if it is square."""
    from PIL import Image

    from palitune.data.images.io import open_image, read_size

    size = read_size(path)
    if size[0] == size[1]:
        return None
    square = Image.new("RGB", (max(size), max(size)), "white")
    square.paste(open_image(path))
    return _save_to_cache(square, "PNG")


def _save_to_cache(image: "Image.Image", image_format: str, **save_options: int) -> str:
    buffer = BytesIO()
    image.save(buffer, image_format, **save_options)
    return extract_to_cache(buffer.getvalue())
