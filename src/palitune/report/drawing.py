"""Draw boxes, masks and labels onto images, legible at any image size."""

import math
import re
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.examples import Box, DataError, Instance, Size

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Colour = tuple[int, int, int]

SMALL = 280
"""Pixels of the longer side below which an image is enlarged."""
SHORT, LONG = 420, 1200
"""Most pixels of the shorter and of the longer side of a drawn image."""
LABEL = 32
"""Most characters of a label that is drawn."""
GHOST: Colour = (22, 163, 74)
"""The green of a reference box behind a prediction."""

# Control characters but tab and newline, bidirectional overrides and isolates, lone surrogates.
_GARBLING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Strong, distinct, each dark enough for white text (contrast >= 4.5).
_PALETTE: tuple[Colour, ...] = (
    (214, 39, 40),
    (31, 100, 200),
    (190, 80, 0),
    (128, 60, 200),
    (0, 128, 110),
    (200, 30, 130),
    (120, 95, 0),
    (0, 120, 170),
    (150, 60, 60),
    (75, 85, 180),
    (90, 120, 10),
    (160, 40, 175),
    (110, 75, 50),
    (70, 90, 110),
    (20, 55, 120),
    (30, 110, 40),
)


def colour_of(label: str) -> Colour:
    """Choose a label's colour: the same in every image, run and process."""
    return _PALETTE[zlib.crc32(label.encode("utf-8", "replace")) % len(_PALETTE)]


def printable(text: str) -> str:
    """Write characters that would garble their surroundings as escapes: `\\u0000`, `\\u202e`."""
    return _GARBLING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def shown_size(size: Size, short: int = SHORT) -> Size:
    """Tell at which (width, height) an image is shown: small ones enlarged, large ones reduced.

    `short`: most pixels of the shorter side.
    """
    longer, shorter = max(size), min(size)
    factor = min(math.ceil(SMALL / longer), short / shorter, LONG / longer)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def load_shown(path: str, size: Size, short: int = SHORT) -> "Image":
    """Open an image at the size it is shown; a placeholder where it cannot be opened.

    `size`: (width, height) in pixels of the image when it was judged; `short` as `shown_size`.
    """
    from PIL import Image

    from palitune.data.images import open_image

    try:
        image = open_image(path)
    except DataError:
        fault = "image unreadable" if Path(path).exists() else "image missing"
        return _placeholder(fault, path, size)
    return image.resize(shown_size(image.size, short), Image.Resampling.LANCZOS)


def draw_instances(
    image: "Image",
    instances: Sequence[Instance],
    *,
    size: Size | None = None,
    ghosts: Sequence[Instance] = (),
) -> "Image":
    """Draw boxes with label and score onto a copy of an image.

    `size`: (width, height) of the pixels that the boxes are given in, where the image has been
    resized since. `ghosts` are drawn behind, thin, green and unlabelled: a prediction's references.
    """
    from PIL import ImageDraw

    drawn = image.convert("RGB").copy()
    scale = (1.0, 1.0) if size is None else (drawn.width / size[0], drawn.height / size[1])
    for instance in instances:
        _tint(drawn, instance)
    canvas = ImageDraw.Draw(drawn)
    thick = max(2, round(max(drawn.size) / 160))
    for ghost in ghosts:
        _dashed(canvas, _scaled(ghost.box, scale), GHOST, max(2, thick - 1))
    for instance in instances:
        _outline(canvas, instance, _scaled(instance.box, scale), thick)
    taken: list[Box] = []
    for instance in instances:
        _tag(canvas, instance, _scaled(instance.box, scale), drawn.size, taken)
    return drawn


def _outline(canvas: "ImageDraw", instance: Instance, box: Box, thick: int) -> None:
    if instance.crowd:
        _dashed(canvas, box, colour_of(instance.label), thick)
        return
    x0, y0, x1, y1 = box
    # A white rim keeps the line visible on any ground.
    canvas.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline="white", width=thick + 2)
    canvas.rectangle(box, outline=colour_of(instance.label), width=thick)


def _dashed(canvas: "ImageDraw", box: Box, colour: Colour, thick: int) -> None:
    """Draw dashes of the colour on a white line, so that they show on any ground."""
    canvas.rectangle(box, outline="white", width=thick)
    x0, y0, x1, y1 = box
    dash = 3 * thick
    for x in range(round(x0), round(x1), 2 * dash):
        for y in (y0, y1 - thick + 1):
            canvas.rectangle((x, y, min(x + dash, x1), y + thick - 1), fill=colour)
    for y_start in range(round(y0), round(y1), 2 * dash):
        for x_side in (x0, x1 - thick + 1):
            end = min(y_start + dash, y1)
            canvas.rectangle((x_side, y_start, x_side + thick - 1, end), fill=colour)


def _tint(drawn: "Image", instance: Instance) -> None:
    """Lay a mask's colour half transparent over the image, in place."""
    if instance.mask is None:
        return
    from PIL import Image

    veil = Image.fromarray(instance.mask).convert("L").resize(drawn.size).point(lambda v: v // 2)
    drawn.paste(colour_of(instance.label), (0, 0, *drawn.size), veil)


def _tag(canvas: "ImageDraw", instance: Instance, box: Box, size: Size, taken: list[Box]) -> None:
    """Write label and score at the box, where it hides no other tag if there is such a place."""
    text = _tag_text(instance)
    if not text:
        return
    font = _font(max(13, round(max(size) / 30)))
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x0, y0, x1, y1 = box
    places = [
        _inside((x, y, x + width, y + height), size)
        for x in (x0, x1 - width)
        for y in (y0 - height, y1, y0, y1 - height)
    ]
    free = (p for p in places if not any(_overlap(p, other) for other in taken))
    place = next(free, places[0])
    taken.append(place)
    canvas.rectangle(place, fill=colour_of(instance.label))
    canvas.text((place[0] + 3 - left, place[1] + 3 - top), text, fill="white", font=font)


def _tag_text(instance: Instance) -> str:
    label = printable(" ".join(instance.label.split()))
    label = label if len(label) <= LABEL else label[: LABEL - 1] + "…"
    return label if instance.score is None else f"{label} {instance.score:.2f}".lstrip()


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    xs = sorted(x * scale[0] for x in box[0::2])
    ys = sorted(y * scale[1] for y in box[1::2])
    return xs[0], ys[0], xs[1], ys[1]


def _inside(box: Box, size: Size) -> Box:
    """Push a box into the image, its upper left corner first."""
    x = max(0.0, min(box[0], size[0] - (box[2] - box[0])))
    y = max(0.0, min(box[1], size[1] - (box[3] - box[1])))
    return x, y, x + box[2] - box[0], y + box[3] - box[1]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@cache
def _font(pixels: int) -> "FreeTypeFont":
    """DejaVu Sans out of matplotlib: one font for every system, with Greek, Cyrillic, Arabic."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), pixels)


def _placeholder(fault: str, path: str, size: Size) -> "Image":
    from PIL import Image, ImageDraw

    blank = Image.new("RGB", shown_size(size), (203, 208, 216))
    canvas = ImageDraw.Draw(blank)
    canvas.rectangle((0, 0, blank.width - 1, blank.height - 1), outline=(120, 128, 140), width=2)
    centre = (blank.width / 2, blank.height / 2)
    text = f"{fault}\n{printable(Path(path).name)[-32:]}"
    canvas.text(centre, text, fill=(60, 66, 76), font=_font(15), anchor="mm", align="center")
    return blank
