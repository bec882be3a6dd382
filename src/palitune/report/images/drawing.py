"""Draw boxes, masks and labels onto images, legible at any image size."""

import math
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from palitune.errors import DataError
from palitune.metrics.objects.matching import intersection_area
from palitune.records import Box, Instance, Size, Tile
from palitune.report.text import escape_unprintable, truncate

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Color = tuple[int, int, int]

MIN_LONG_SIDE = 280
"""Longer side in pixels below which an image is enlarged."""
MAX_SHORT_SIDE, MAX_LONG_SIDE = 420, 1200
"""Maximum pixels of the shorter and the longer side of a drawn image."""
MAX_LABEL_LENGTH = 32
"""Maximum characters of a drawn label."""
REFERENCE_COLOR: Color = (22, 163, 74)
"""Green of a reference box behind a prediction."""
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf")
"""Fonts of the system, in order of preference: those with more alphabets come first."""

PALETTE: tuple[Color, ...] = (
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
"""Strong, distinct colors, each dark enough for white text (contrast >= 4.5)."""


def label_color(label: str) -> Color:
    """Return the color of a label, the same in every image, run and process."""
    return PALETTE[color_index(label)]


def color_index(label: str) -> int:
    """Return the position of the color of a label in `PALETTE`."""
    return zlib.crc32(label.encode("utf-8", "replace")) % len(PALETTE)


def display_size(size: Size, max_short_side: int = MAX_SHORT_SIDE) -> Size:
    """Return the (width, height) at which an image is shown.

    A small image is enlarged by an integer factor, a large one is reduced until its shorter side
    has at most `max_short_side` pixels.
    """
    longer, shorter = max(size), min(size)
    factor = min(
        math.ceil(MIN_LONG_SIDE / longer), max_short_side / shorter, MAX_LONG_SIDE / longer
    )
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def load_for_display(
    path: str, size: Size, max_short_side: int = MAX_SHORT_SIDE, tile: Tile | None = None
) -> "Image":
    """Open an image at its display size; return a placeholder if it cannot be opened.

    Args:
        path: Image file.
        size: (width, height) in pixels of the image when it was evaluated, for the placeholder.
        max_short_side: Maximum pixels of the shorter side.
        tile: Part of the image; None: the whole image.
    """
    from PIL import Image

    from palitune.data.images.io import open_image
    from palitune.data.images.transforms import crop_with_padding

    try:
        image = open_image(path)
    except DataError:
        message = "image unreadable" if Path(path).exists() else "image missing"
        return _draw_placeholder(message, path, size)
    if tile is not None:
        image = crop_with_padding(image, tile)
    return image.resize(display_size(image.size, max_short_side), Image.Resampling.LANCZOS)


def upscaled_size(size: Size) -> Size:
    """Return the size at which predictions are drawn: that of the image, or a multiple of it."""
    factor = max(1, math.ceil(MIN_LONG_SIDE / max(size)))
    return size[0] * factor, size[1] * factor


def draw_instances(
    image: "Image",
    instances: Sequence[Instance],
    *,
    size: Size | None = None,
    references: Sequence[Instance] = (),
) -> "Image":
    """Draw masks, boxes, labels and scores onto a copy of an image.

    Args:
        image: Image to draw on.
        instances: Objects to draw.
        size: (width, height) of the image that boxes and masks refer to; None: that of `image`.
        references: Reference objects, drawn behind as thin dashed green boxes without labels.
    """
    from PIL import ImageDraw

    drawn = image.convert("RGB")  # a copy in any case
    scale = (1.0, 1.0) if size is None else (drawn.width / size[0], drawn.height / size[1])
    thick = max(2, round(max(drawn.size) / 320))
    for instance in instances:
        _draw_mask(drawn, instance, scale, thick)
    canvas = ImageDraw.Draw(drawn)
    for reference in references:
        box = _scale_box(reference.box, scale)
        _draw_dashed_box(canvas, box, REFERENCE_COLOR, max(2, thick - 1))
    for instance in instances:
        _draw_box(canvas, instance, _scale_box(instance.box, scale), thick)
    occupied: list[Box] = []
    for instance in instances:
        _draw_label(canvas, instance, _scale_box(instance.box, scale), drawn.size, occupied)
    return drawn


def _draw_box(canvas: "ImageDraw", instance: Instance, box: Box, line_width: int) -> None:
    if instance.crowd:
        _draw_dashed_box(canvas, box, label_color(instance.label), line_width)
        return
    if instance.mask is not None:  # its own outline is the thicker one
        line_width = max(1, line_width // 2)
    x0, y0, x1, y1 = box
    # A white rim keeps the line visible on any background.
    rim = max(1, line_width // 3)
    outer = (x0 - rim, y0 - rim, x1 + rim, y1 + rim)
    canvas.rectangle(outer, outline="white", width=line_width + 2 * rim)
    canvas.rectangle(box, outline=label_color(instance.label), width=line_width)


def _draw_dashed_box(canvas: "ImageDraw", box: Box, color: Color, line_width: int) -> None:
    """Draw colored dashes on a white line, visible on any background."""
    canvas.rectangle(box, outline="white", width=line_width)
    x0, y0, x1, y1 = box
    dash = 3 * line_width
    for x in range(round(x0), round(x1), 2 * dash):
        for y in (y0, y1 - line_width + 1):
            canvas.rectangle((x, y, min(x + dash, x1), y + line_width - 1), fill=color)
    for y_start in range(round(y0), round(y1), 2 * dash):
        for x_side in (x0, x1 - line_width + 1):
            end = min(y_start + dash, y1)
            canvas.rectangle((x_side, y_start, x_side + line_width - 1, end), fill=color)


def _draw_mask(
    image: "Image", instance: Instance, scale: tuple[float, float], line_width: int
) -> None:
    """Blend the color of a mask into the image, with a solid rim inside its edge, in place."""
    if instance.mask is None or not instance.mask.any():
        return
    from PIL import Image, ImageChops, ImageFilter

    rows, columns = (np.flatnonzero(instance.mask.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    x0, y0, x1, y1 = map(round, _scale_box((left, top, right, bottom), scale))
    size = max(1, x1 - x0), max(1, y1 - y0)
    inside = Image.fromarray(instance.mask[top:bottom, left:right]).convert("L")
    inside = inside.resize(size, Image.Resampling.BILINEAR).point(lambda value: 255 * (value > 127))
    # With an empty rim around the crop, its borders are edges as well.
    shape = Image.new("L", (size[0] + 2, size[1] + 2))
    shape.paste(inside, (1, 1))

    def rim(width: int) -> Image.Image:
        """Return the part of the shape within `width` pixels of its edge."""
        core = shape.filter(ImageFilter.BoxBlur(width)).point(lambda value: 255 * (value > 252))
        return ImageChops.subtract(shape, core)

    color = label_color(instance.label)
    layers = (
        (color, shape.point(lambda value: value * 2 // 5)),
        ("white", rim(round(1.5 * line_width))),
        (color, rim(line_width)),
    )
    for ink, alpha in layers:
        image.paste(
            ink, (x0, y0, x0 + size[0], y0 + size[1]), alpha.crop((1, 1, size[0] + 1, size[1] + 1))
        )


def _draw_label(
    canvas: "ImageDraw", instance: Instance, box: Box, size: Size, occupied: list[Box]
) -> None:
    """Write label and score next to the box, where they overlap other labels least."""
    font = load_font(max(13, round(min(max(size) / 48, min(size) / 12))))
    text = _replace_missing_glyphs(label_text(instance), font)
    text = _truncate_to_width(text, size[0], canvas, font)
    if not text:
        return
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    # All labels have the same height, so that they line up.
    top, bottom = canvas.textbbox((0, 0), "Ág", font=font)[1::2]
    margin = max(3, font.size // 5)
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    position = place_label(box, (width, height), size, occupied)
    occupied.append(position)
    canvas.rectangle(position, fill=label_color(instance.label))
    start = position[0] + margin - left, position[1] + margin - top
    canvas.text(start, text, fill="white", font=font)


def place_label(
    box: Box, label_size: tuple[float, float], size: Size, occupied: Sequence[Box]
) -> Box:
    """Choose the position of a label of (width, height): above, below, inside or beside its box.

    Return the position with the smallest overlap with the `occupied` ones, the first of equals.
    """
    (width, height), (x0, y0, x1, y1) = label_size, box
    corners = [
        (x, y) for y in (y0 - height, y1, y0, y1 - height) for x in (x0, x1 - width, (x0 + x1) / 2)
    ]
    corners += [(x, y) for x in (x1, x0 - width) for y in (y0, y1 - height, (y0 + y1) / 2)]
    # For crowded objects: further positions down the left side.
    corners += [(x0, y0 + step * height) for step in range(1, 6)]
    positions = [_clamp_box((x, y, x + width, y + height), size) for x, y in corners]
    return min(
        positions, key=lambda label: sum(intersection_area(label, other) for other in occupied)
    )


def _truncate_to_width(text: str, width: int, canvas: "ImageDraw", font: "FreeTypeFont") -> str:
    """Shorten a text until it fits into an image of this width in pixels."""
    while len(text) > 1 and canvas.textlength(text, font=font) > width - 8:
        text = text[:-2].rstrip("…") + "…"
    return text


def label_text(instance: Instance) -> str:
    """Return label and score in one line."""
    label = escape_unprintable(" ".join(instance.label.split()))
    label = truncate(label, MAX_LABEL_LENGTH)
    return label if instance.score is None else f"{label} {instance.score:.2f}".lstrip()


def _scale_box(box: Box, scale: tuple[float, float]) -> Box:
    xs = sorted(x * scale[0] for x in box[0::2])
    ys = sorted(y * scale[1] for y in box[1::2])
    return xs[0], ys[0], xs[1], ys[1]


def _clamp_box(box: Box, size: Size) -> Box:
    """Move a box into the image; a larger one starts at the upper left corner."""
    x = max(0.0, min(box[0], size[0] - (box[2] - box[0])))
    y = max(0.0, min(box[1], size[1] - (box[3] - box[1])))
    return x, y, x + box[2] - box[0], y + box[3] - box[1]


@cache
def load_font(pixels: int) -> "FreeTypeFont":
    """Return the first installed font of `FONTS`, or the ASCII font that Pillow includes."""
    from PIL import ImageFont

    for name in FONTS:
        try:
            return ImageFont.truetype(name, pixels)
        except OSError:
            continue
    font = ImageFont.load_default(pixels)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _replace_missing_glyphs(text: str, font: "FreeTypeFont") -> str:
    """Replace letters that the font lacks by question marks.

    A lacking letter is drawn like U+FFFF, which is no character and has no glyph in any font.
    """
    missing = bytes(font.getmask("\uffff"))
    return "".join("?" if bytes(font.getmask(char)) == missing else char for char in text)


def _draw_placeholder(message: str, path: str, size: Size) -> "Image":
    from PIL import Image, ImageDraw

    blank = Image.new("RGB", display_size(size), (203, 208, 216))
    canvas = ImageDraw.Draw(blank)
    canvas.rectangle((0, 0, blank.width - 1, blank.height - 1), outline=(120, 128, 140), width=2)
    center = (blank.width / 2, blank.height / 2)
    font = load_font(15)
    name = _replace_missing_glyphs(escape_unprintable(Path(path).name)[-32:], font)
    text = f"{message}\n{name}"
    canvas.text(center, text, fill=(60, 66, 76), font=font, anchor="mm", align="center")
    return blank
