"""What every format checks about an image and its boxes."""

from collections.abc import Callable
from functools import lru_cache
from os import path as paths
from typing import TYPE_CHECKING, Any

from palitune.examples import Box, DataError, Size

if TYPE_CHECKING:
    from palitune.data.images import Header

HeaderReader = Callable[[str], "Header"]

_CORNERS = ("x0", "y0", "x1", "y1")
_ABSURD = 1e9
"""Pixels that no image has; keeps whole numbers too long for a float out of the arithmetic."""
_REMEMBERED = 1 << 18
"""Image headers kept in memory while a file is read: about 80 MB."""


def header_reader() -> HeaderReader:
    """Return `images.read_header` with a memory: rows of one image read its file once."""
    from palitune.data.images import read_header

    return lru_cache(maxsize=_REMEMBERED)(read_header)


def image_path(folder: str, name: str, place: str) -> str:
    """Return the absolute path of an image that an annotation names; URLs are refused."""
    if "://" in name:
        raise DataError(
            f"{place}: image {name!r} is a URL; download the images and give paths relative to "
            "the data"
        )
    return paths.normpath(paths.join(folder, name))


def four_numbers(value: Any, place: str, form: str) -> tuple[float, float, float, float]:
    """Return the numbers of a box; `form` says what they should be."""
    if (
        not isinstance(value, list)
        or len(value) != 4
        or not {int, float}.issuperset(map(type, value))
        or not -_ABSURD < min(value) <= max(value) < _ABSURD
    ):
        raise DataError(f"{place}: box {shown(value)} is not four numbers; boxes are {form}")
    a, b, c, d = value
    return float(a), float(b), float(c), float(d)


def checked_box(corners: Box, size: Size, place: str, form: str) -> Box:
    """Return a box cut to the image; it may lie outside by a pixel, as rounded boxes do."""
    width, height = size
    x0, y0, x1, y1 = corners
    if 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and x1 + y1 > 2:
        return corners
    if max(corners) <= 1 and any(corner % 1 for corner in corners):
        raise DataError(f"{place}: box {list(corners)} is in fractions; boxes are {form}")
    for name, value, side in zip(_CORNERS, corners, (width, height) * 2, strict=True):
        if not -1 <= value <= side + 1:
            raise DataError(
                f"{place}: box {name}={value:g} lies outside the image ({side} px); "
                f"boxes are {form}"
            )
    cut = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        raise DataError(f"{place}: box {list(corners)} has no area; boxes are {form}")
    return cut


def shown(value: Any) -> str:
    """Write a value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
