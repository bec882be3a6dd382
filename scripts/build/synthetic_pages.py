"""Pages of one to three digits, printed or handwritten, and the texts that go with them.

A page is 112 x 112 pixels, two rows of three cells, with at most one digit per cell. All digits
of a row share their top edge, so that sorting boxes by (y0, x0) is reading order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

PAGE_SIZE = 112
"""Height and width of a page, in pixels: eight patches of 14 pixels each way."""

ROWS, COLUMNS = 2, 3
GLYPH_HEIGHTS = (30, 44)
"""Least and largest height of a digit's ink, in pixels."""

LINE_BRIGHTNESS = (0.7, 0.84)
"""Least and largest brightness of the lines of squared paper, as a fraction of the paper's."""

BOX_MARGIN = 2
"""Pixels of paper between a digit's ink and its box."""

LOC_BINS = 1024
QUESTION_LARGEST = "what is the largest digit?"
QUESTION_COUNT = "how many digits are there?"

Glyph = NDArray[np.float32]
"""Ink coverage of one digit: (height, width) in [0, 1], cropped to its ink."""

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class PlacedDigit:
    """A digit on a page and the box around it."""

    label: int
    box: Box


@dataclass(frozen=True)
class Page:
    """A gray image, (112, 112) uint8, its digits in reading order, and its ink."""

    image: NDArray[np.uint8]
    digits: tuple[PlacedDigit, ...]
    ink: Glyph
    """(112, 112) in [0, 1]: of all digits, whose boxes do not overlap."""


# Glyphs ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distortion:
    """Bounds of the random distortion of a glyph; each draw is uniform between minus and plus."""

    degrees: float = 0.0
    shear: float = 0.0
    log_aspect: float = 0.0
    blurs: tuple[float, ...] = (0.0,)
    """Radii of the Gaussian blur to choose from, in pixels."""


def crop_to_ink(ink: Glyph, threshold: float) -> Glyph:
    """Cut away the rows and columns at the border whose ink stays below the threshold."""
    rows, columns = np.where(ink > threshold)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def distort(ink: Glyph, distortion: Distortion, rng: random.Random) -> Glyph:
    """Rotate, shear, stretch, scale to a random height of `GLYPH_HEIGHTS`, and blur a glyph."""
    height, width = ink.shape
    half = max(height, width)
    canvas = Image.new("L", (2 * half, 2 * half))
    canvas.paste(_to_image(ink), ((2 * half - width) // 2, (2 * half - height) // 2))
    angle = math.radians(rng.uniform(-distortion.degrees, distortion.degrees))
    shear = rng.uniform(-distortion.shear, distortion.shear)
    cos, sin = math.cos(angle), math.sin(angle)
    shift_x = half - cos * half - (sin + shear) * half
    shift_y = half + sin * half - cos * half
    affine = (cos, sin + shear, shift_x, -sin, cos, shift_y)
    canvas = canvas.transform(canvas.size, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    turned = crop_to_ink(_to_ink(canvas), threshold=0.15)

    new_height = rng.randint(*GLYPH_HEIGHTS)
    aspect = math.exp(rng.uniform(-distortion.log_aspect, distortion.log_aspect))
    widest = PAGE_SIZE // COLUMNS - 2 * BOX_MARGIN - 1
    new_width = round(new_height * turned.shape[1] / turned.shape[0] * aspect)
    new_size = (min(max(new_width, 5), widest), new_height)
    shrinks = turned.shape[0] > new_height
    scaled = _to_image(turned).resize(
        new_size, Image.Resampling.LANCZOS if shrinks else Image.Resampling.BICUBIC
    )
    blur = rng.choice(distortion.blurs)
    return _to_ink(scaled.filter(ImageFilter.GaussianBlur(blur)) if blur else scaled)


FONTS = [
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
    *("DejaVuSansMono-BoldOblique", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    *("DejaVuSerif-BoldItalic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    *("STIXGeneralBolIta", "cmr10", "cmss10", "cmtt10", "cmb10", "cmti10"),
]
"""Fonts of printed digits, from those that matplotlib contains."""

PRINT = Distortion(degrees=6, shear=0.12, log_aspect=0.15, blurs=(0.0, 0.0, 0.6, 1.0))


def printed_glyphs(variants: int, seed: int) -> list[list[Glyph]]:
    """Render each digit in each font `variants` times; the result is indexed by digit."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    rng = random.Random(seed)
    glyphs: list[list[Glyph]] = [[] for _ in range(10)]
    for name in FONTS:
        font = ImageFont.truetype(str(folder / f"{name}.ttf"), 64)
        for digit in range(10):
            canvas = Image.new("L", (128, 128))
            ImageDraw.Draw(canvas).text((40, 20), str(digit), fill=255, font=font)
            ink = crop_to_ink(_to_ink(canvas), threshold=0.2)
            glyphs[digit] += [distort(ink, PRINT, rng) for _ in range(variants)]
    return glyphs


def handwritten_digits(split: str) -> list[tuple[int, Glyph]]:
    """Return (label, ink) of the UCI optical digits of one split, in the order of the file.

    Of the 1797 digits the first 60 % are `train`, the next 10 % `validation`, the rest `test`.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    total = len(data.target)
    begin, end = {"train": (0.0, 0.6), "validation": (0.6, 0.7), "test": (0.7, 1.0)}[split]
    chosen = slice(round(begin * total), round(end * total))
    pairs = zip(data.target[chosen], data.images[chosen], strict=True)
    return [(int(label), _enlarge(np.float32(image) / 16)) for label, image in pairs]


def _enlarge(image: Glyph) -> Glyph:
    """Turn 8 x 8 gray levels into smooth ink with the contrast of a pen, 16 times as large."""
    smooth = _to_image(np.pad(image, 1)).resize((160, 160), Image.Resampling.BICUBIC)
    ink = np.clip((_to_ink(smooth) - 0.2) / 0.5, 0, 1)
    return crop_to_ink(np.float32(ink), threshold=0.15)


def _to_image(ink: Glyph) -> Image.Image:
    return Image.fromarray((ink * 255).astype(np.uint8))


def _to_ink(image: Image.Image) -> Glyph:
    return np.asarray(image, np.float32) / 255


# Pages -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paper:
    """Background of a page."""

    squared: bool = False
    """Whether faint lines cross the page both ways, as in an arithmetic book."""

    noise: float = 0.0
    """Standard deviation of the noise of a pixel, in gray levels."""


PLAIN_PAPER = Paper()
SQUARED_PAPER = Paper(squared=True)


def compose_page(
    glyphs: Sequence[tuple[int, Glyph]], rng: random.Random, paper: Paper = PLAIN_PAPER
) -> Page:
    """Put glyphs, in this order, into random cells of a page."""
    cells = sorted(rng.sample(range(ROWS * COLUMNS), len(glyphs)))
    ink = np.zeros((PAGE_SIZE, PAGE_SIZE), np.float32)
    placed: list[PlacedDigit] = []
    for row in range(ROWS):
        in_row = [
            (cell % COLUMNS, label, glyph)
            for cell, (label, glyph) in zip(cells, glyphs, strict=True)
            if cell // COLUMNS == row
        ]
        if not in_row:
            continue
        tallest = max(glyph.shape[0] for _, _, glyph in in_row)
        top = _offset(row * PAGE_SIZE / ROWS, PAGE_SIZE / ROWS, tallest, rng)
        for column, label, glyph in in_row:
            height, width = glyph.shape
            left = _offset(column * PAGE_SIZE / COLUMNS, PAGE_SIZE / COLUMNS, width, rng)
            ink[top : top + height, left : left + width] = glyph
            box = (
                left - BOX_MARGIN,
                top - BOX_MARGIN,
                left + width + BOX_MARGIN,
                top + height + BOX_MARGIN,
            )
            placed.append(PlacedDigit(label, box))
    return Page(_render_gray_levels(ink, rng, paper), tuple(placed), ink)


def random_page(
    glyphs: Sequence[Sequence[Glyph]], count: int, rng: random.Random, paper: Paper = PLAIN_PAPER
) -> Page:
    """Compose a page of `count` digits drawn uniformly, with repetition, from a bank of glyphs."""
    labels = [rng.randrange(10) for _ in range(count)]
    return compose_page([(label, rng.choice(glyphs[label])) for label in labels], rng, paper)


def _offset(start: float, room: float, length: int, rng: random.Random) -> int:
    """Place a stretch of `length` pixels, its margins included, at random inside a cell."""
    return math.ceil(start) + BOX_MARGIN + rng.randint(0, int(room) - length - 2 * BOX_MARGIN)


def _render_gray_levels(ink: Glyph, rng: random.Random, paper: Paper) -> NDArray[np.uint8]:
    """Turn ink coverage into gray levels: dark ink on light paper, in 16 steps."""
    light, dark = rng.uniform(215, 255), rng.uniform(0, 80)
    grey = light + (dark - light) * np.round(ink * 15) / 15
    if paper.squared:
        spacing, line = rng.randint(12, 18), light * rng.uniform(*LINE_BRIGHTNESS)
        first_row, first_column = rng.randrange(spacing), rng.randrange(spacing)
        grey[first_row::spacing] = np.minimum(grey[first_row::spacing], line)
        grey[:, first_column::spacing] = np.minimum(grey[:, first_column::spacing], line)
    if paper.noise:
        numbers = np.random.default_rng(rng.getrandbits(32))
        grey = grey + numbers.normal(0.0, paper.noise, grey.shape)
    return np.clip(np.round(grey), 0, 255).astype(np.uint8)


# Texts -------------------------------------------------------------------------------------------


def box_to_tokens(box: Box) -> str:
    """Write a box as four location tokens: y0, x0, y1, x1."""
    x0, y0, x1, y1 = box
    bins = (round(value / PAGE_SIZE * (LOC_BINS - 1)) for value in (y0, x0, y1, x1))
    return "".join(f"<loc{min(max(index, 0), LOC_BINS - 1):04d}>" for index in bins)


def ocr_text(page: Page) -> str:
    """Return the digits of a page in reading order."""
    return "".join(str(digit.label) for digit in page.digits)


def detect_prefix(labels: Sequence[int]) -> str:
    """Return the prompt for the boxes of some classes."""
    return "detect " + " ; ".join(str(label) for label in labels)


def detect_suffix(page: Page, labels: Sequence[int]) -> str:
    """Write the digits of some classes, in reading order."""
    digits = [digit for digit in page.digits if digit.label in labels]
    return " ; ".join(f"{box_to_tokens(digit.box)} {digit.label}" for digit in digits)


def present_labels(page: Page) -> list[int]:
    """Return the classes on a page, sorted, each once."""
    return sorted({digit.label for digit in page.digits})


def prefix_and_suffix(page: Page, task: str, rng: random.Random) -> tuple[str, str]:
    """Write prefix and suffix of a task: ocr, detect_all, detect_one, largest or count."""
    match task:
        case "ocr":
            return "ocr", ocr_text(page)
        case "detect_all":
            labels = present_labels(page)
            return detect_prefix(labels), detect_suffix(page, labels)
        case "detect_one":
            labels = [rng.choice(present_labels(page))]
            return detect_prefix(labels), detect_suffix(page, labels)
        case "largest":
            return f"answer en {QUESTION_LARGEST}", str(present_labels(page)[-1])
        case "count":
            return f"answer en {QUESTION_COUNT}", str(len(page.digits))
    raise ValueError(f"no task named {task!r}")
