"""Draw boxes, masks and labels onto images, legible at any image size."""

import math
import re
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from palitune.errors import DataError
from palitune.records import Box, Instance, Size

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Color = tuple[int, int, int]

MIN_LONG_SIDE = 280
"""Pixels of the longer side below which an image is enlarged."""
MAX_SHORT_SIDE, MAX_LONG_SIDE = 420, 1200
"""Most pixels of the shorter and of the longer side of a drawn image."""
MAX_LABEL_LENGTH = 32
"""Most characters of a label that is drawn."""
REFERENCE_COLOR: Color = (22, 163, 74)
"""The green of a reference box behind a prediction."""

# Control characters but tab and newline, bidirectional overrides and isolates, lone surrogates.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Strong, distinct, each dark enough for white text (contrast >= 4.5).
_PALETTE: tuple[Color, ...] = (
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


def label_color(label: str) -> Color:
    """Choose a label's colour: the same in every image, run and process."""
    return _PALETTE[zlib.crc32(label.encode("utf-8", "replace")) % len(_PALETTE)]


def escape_unprintable(text: str) -> str:
    """Write characters that would garble their surroundings as escapes: `\\u0000`, `\\u202e`."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def display_size(size: Size, max_short_side: int = MAX_SHORT_SIDE) -> Size:
    """Tell at which (width, height) an image is shown: small ones enlarged, large ones reduced.

    `short`: most pixels of the shorter side.
    """
    longer, shorter = max(size), min(size)
    factor = min(
        math.ceil(MIN_LONG_SIDE / longer), max_short_side / shorter, MAX_LONG_SIDE / longer
    )
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def load_for_display(path: str, size: Size, max_short_side: int = MAX_SHORT_SIDE) -> "Image":
    """Open an image at the size it is shown; a placeholder where it cannot be opened.

    `size`: (width, height) in pixels of the image when it was judged; `short` as `shown_size`.
    """
    from PIL import Image

    from palitune.data.images.io import open_image

    try:
        image = open_image(path)
    except DataError:
        fault = "image unreadable" if Path(path).exists() else "image missing"
        return _draw_placeholder(fault, path, size)
    return image.resize(display_size(image.size, max_short_side), Image.Resampling.LANCZOS)


def upscaled_size(size: Size) -> Size:
    """Tell at which size predictions are drawn: the image's own, small ones a whole time larger."""
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

    `size`: (width, height) of the pixels that boxes and masks are given in, where the image has
    been resized since. `ghosts` are drawn behind, thin, green and unlabelled: a prediction's
    references.
    """
    from PIL import ImageDraw

    drawn = image.convert("RGB")  # a copy in any case
    scale = (1.0, 1.0) if size is None else (drawn.width / size[0], drawn.height / size[1])
    thick = max(2, round(max(drawn.size) / 320))
    for instance in instances:
        _draw_mask(drawn, instance, scale, thick)
    canvas = ImageDraw.Draw(drawn)
    for ghost in references:
        _draw_dashed_box(canvas, _scale_box(ghost.box, scale), REFERENCE_COLOR, max(2, thick - 1))
    for instance in instances:
        _draw_box(canvas, instance, _scale_box(instance.box, scale), thick)
    taken: list[Box] = []
    for instance in instances:
        _draw_label(canvas, instance, _scale_box(instance.box, scale), drawn.size, taken)
    return drawn


def _draw_box(canvas: "ImageDraw", instance: Instance, box: Box, line_width: int) -> None:
    if instance.crowd:
        _draw_dashed_box(canvas, box, label_color(instance.label), line_width)
        return
    if instance.mask is not None:  # its own outline is the thicker one
        line_width = max(1, line_width // 2)
    x0, y0, x1, y1 = box
    # A white rim keeps the line visible on any ground.
    rim = max(1, line_width // 3)
    outer = (x0 - rim, y0 - rim, x1 + rim, y1 + rim)
    canvas.rectangle(outer, outline="white", width=line_width + 2 * rim)
    canvas.rectangle(box, outline=label_color(instance.label), width=line_width)


def _draw_dashed_box(canvas: "ImageDraw", box: Box, color: Color, line_width: int) -> None:
    """Draw dashes of the colour on a white line, so that they show on any ground."""
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
    """Lay a mask's colour half transparent over the image, with a rim inside its edge, in place."""
    if instance.mask is None or not instance.mask.any():
        return
    from PIL import Image, ImageChops, ImageFilter

    rows, columns = (np.flatnonzero(instance.mask.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    x0, y0, x1, y1 = map(round, _scale_box((left, top, right, bottom), scale))
    size = max(1, x1 - x0), max(1, y1 - y0)
    inside = Image.fromarray(instance.mask[top:bottom, left:right]).convert("L")
    inside = inside.resize(size, Image.Resampling.BILINEAR).point(lambda value: 255 * (value > 127))
    # An empty rim around the crop makes its borders edges, too.
    shape = Image.new("L", (size[0] + 2, size[1] + 2))
    shape.paste(inside, (1, 1))

    def rim(width: int) -> Image.Image:
        """Return what of the shape lies at most so far from its edge."""
        core = shape.filter(ImageFilter.BoxBlur(width)).point(lambda value: 255 * (value > 252))
        return ImageChops.subtract(shape, core)

    colour = label_color(instance.label)
    layers = (
        (colour, shape.point(lambda value: value * 2 // 5)),
        ("white", rim(round(1.5 * line_width))),
        (colour, rim(line_width)),
    )
    for ink, veil in layers:
        image.paste(
            ink, (x0, y0, x0 + size[0], y0 + size[1]), veil.crop((1, 1, size[0] + 1, size[1] + 1))
        )


def _draw_label(
    canvas: "ImageDraw", instance: Instance, box: Box, size: Size, occupied: list[Box]
) -> None:
    """Write label and score at the box, where it hides the least of other tags."""
    font = _load_font(max(13, round(min(max(size) / 48, min(size) / 12))))
    text = _truncate_to_width(_label_text(instance), size[0], canvas, font)
    if not text:
        return
    left, top, right, bottom = canvas.textbbox((0, 0), text, font=font)
    # As high for every label, so that tags stand in rows.
    top, bottom = canvas.textbbox((0, 0), "Ág", font=font)[1::2]
    margin = max(3, font.size // 5)
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    place = _place_label(box, (width, height), size, occupied)
    occupied.append(place)
    canvas.rectangle(place, fill=label_color(instance.label))
    at = place[0] + margin - left, place[1] + margin - top
    canvas.text(at, text, fill="white", font=font)


def _place_label(
    box: Box, label_size: tuple[float, float], size: Size, occupied: Sequence[Box]
) -> Box:
    """Choose where a tag of (width, height) goes: above, below, inside, beside its box."""
    (width, height), (x0, y0, x1, y1) = label_size, box
    corners = [
        (x, y) for y in (y0 - height, y1, y0, y1 - height) for x in (x0, x1 - width, (x0 + x1) / 2)
    ]
    corners += [(x, y) for x in (x1, x0 - width) for y in (y0, y1 - height, (y0 + y1) / 2)]
    # Further and further down along the left side, for objects that crowd each other.
    corners += [(x0, y0 + step * height) for step in range(1, 6)]
    places = [_clamp_box((x, y, x + width, y + height), size) for x, y in corners]
    return min(
        places, key=lambda place: sum(_intersection_area(place, other) for other in occupied)
    )


def _truncate_to_width(text: str, width: int, canvas: "ImageDraw", font: "FreeTypeFont") -> str:
    """Shorten a text until it fits into an image of that width."""
    while len(text) > 1 and canvas.textlength(text, font=font) > width - 8:
        text = text[:-2].rstrip("…") + "…"
    return text


def _label_text(instance: Instance) -> str:
    label = escape_unprintable(" ".join(instance.label.split()))
    label = label if len(label) <= MAX_LABEL_LENGTH else label[: MAX_LABEL_LENGTH - 1] + "…"
    return label if instance.score is None else f"{label} {instance.score:.2f}".lstrip()


def _scale_box(box: Box, scale: tuple[float, float]) -> Box:
    xs = sorted(x * scale[0] for x in box[0::2])
    ys = sorted(y * scale[1] for y in box[1::2])
    return xs[0], ys[0], xs[1], ys[1]


def _clamp_box(box: Box, size: Size) -> Box:
    """Push a box into the image, its upper left corner first."""
    x = max(0.0, min(box[0], size[0] - (box[2] - box[0])))
    y = max(0.0, min(box[1], size[1] - (box[3] - box[1])))
    return x, y, x + box[2] - box[0], y + box[3] - box[1]


def _intersection_area(a: Box, b: Box) -> float:
    """Return the area that two boxes share."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)


@cache
def _load_font(pixels: int) -> "FreeTypeFont":
    """DejaVu Sans out of matplotlib: one font for every system, with Greek, Cyrillic, Arabic."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), pixels)


def _draw_placeholder(message: str, path: str, size: Size) -> "Image":
    from PIL import Image, ImageDraw

    blank = Image.new("RGB", display_size(size), (203, 208, 216))
    canvas = ImageDraw.Draw(blank)
    canvas.rectangle((0, 0, blank.width - 1, blank.height - 1), outline=(120, 128, 140), width=2)
    centre = (blank.width / 2, blank.height / 2)
    text = f"{message}\n{escape_unprintable(Path(path).name)[-32:]}"
    canvas.text(centre, text, fill=(60, 66, 76), font=_load_font(15), anchor="mm", align="center")
    return blank
