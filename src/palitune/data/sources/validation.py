"""What every format checks about an image and its boxes."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from os import path as paths
from typing import TYPE_CHECKING, Any

from palitune.errors import DataError
from palitune.records import Box, Size

if TYPE_CHECKING:
    from palitune.data.images.io import Header

HeaderReader = Callable[[str], "Header"]

_CORNER_NAMES = ("x0", "y0", "x1", "y1")
_MAX_COORDINATE = 1e9
"""Pixels that no image has; keeps whole numbers too long for a float out of the arithmetic."""
_HEADER_CACHE_SIZE = 1 << 18
"""Image headers kept in memory while a file is read: about 80 MB."""


def cached_header_reader() -> HeaderReader:
    """Return `images.read_header` with a memory: rows of one image read its file once."""
    from palitune.data.images.io import read_header

    return lru_cache(maxsize=_HEADER_CACHE_SIZE)(read_header)


def image_size(read_header: HeaderReader, path: str, location: str) -> Size:
    """Return the upright size of an image; the message of a bad one names `place` too."""
    try:
        return read_header(path).size
    except DataError as mistake:
        raise DataError(f"{location}: {mistake}") from mistake


def image_path(folder: str, name: str, location: str) -> str:
    """Return the absolute path of an image that an annotation names; URLs are refused."""
    if "://" in name:
        raise DataError(
            f"{location}: image {name!r} is a URL; download the images and give paths relative to "
            "the data"
        )
    return paths.normpath(paths.join(folder, name))


def check_size(
    declared_size: tuple[Any, Any],
    header: "Header",
    path: str,
    location: str,
    annotation_kind: str = "boxes",
) -> None:
    """Refuse an annotation that was made for an image of another size."""
    if declared_size in ((None, None), header.size):
        return
    turned = ""
    if header.transposed:
        turned = f" once its EXIF orientation is applied, which the {annotation_kind} do not know"
    raise DataError(
        f"{location}: the file says {declared_size[0]}x{declared_size[1]} px, but {path} has "
        f"{header.size[0]}x{header.size[1]} px{turned}; annotate the image as it is shown, or "
        "replace it"
    )


def parse_four_numbers(
    value: Any, location: str, expected: str
) -> tuple[float, float, float, float]:
    """Return the numbers of a box; `form` says what they should be."""
    if not isinstance(value, list) or len(value) != 4 or not are_numbers(value):
        raise DataError(
            f"{location}: box {short_repr(value)} is not four numbers; boxes are {expected}"
        )
    a, b, c, d = value
    return float(a), float(b), float(c), float(d)


def are_numbers(values: Sequence[Any]) -> bool:
    """Tell whether a list holds finite numbers of a sensible size only, and at least one."""
    return (
        bool(values)
        and {int, float}.issuperset(map(type, values))
        and not any(value != value for value in values)
        and -_MAX_COORDINATE < min(values) <= max(values) < _MAX_COORDINATE
    )


def validate_box(corners: Box, size: Size, location: str, expected: str) -> Box:
    """Return a box cut to the image; it may lie outside by a pixel, as rounded boxes do."""
    width, height = size
    x0, y0, x1, y1 = corners
    if 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and x1 + y1 > 2:
        return corners
    if max(corners) <= 1 and any(corner % 1 for corner in corners):
        raise DataError(f"{location}: box {list(corners)} is in fractions; boxes are {expected}")
    for name, value, side in zip(_CORNER_NAMES, corners, (width, height) * 2, strict=True):
        if not -1 <= value <= side + 1:
            swapped = ""
            if fits_image((y0, x0, y1, x1), size):
                swapped = "; with x and y swapped it lies inside: is y written first?"
            raise DataError(
                f"{location}: box {name}={value:g} lies outside the image ({side} px); "
                f"boxes are {expected}{swapped}"
            )
    cut = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if cut[2] <= cut[0] or cut[3] <= cut[1]:
        raise DataError(f"{location}: box {list(corners)} has no area; boxes are {expected}")
    return cut


def fits_image(corners: Box, size: Size) -> bool:
    """Tell whether a box has an area and lies in the image, give or take a pixel."""
    x0, y0, x1, y1 = corners
    return -1 <= x0 < x1 <= size[0] + 1 and -1 <= y0 < y1 <= size[1] + 1


def utf8_lines(content: bytes, file: object) -> list[str]:
    """Return the lines of a text file; another encoding is refused."""
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as mistake:
        line = content.count(b"\n", 0, mistake.start) + 1
        raise DataError(f"{file}:{line}: not UTF-8 ({mistake.reason}); save it as UTF-8") from None


def short_repr(value: Any) -> str:
    """Write a value for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
