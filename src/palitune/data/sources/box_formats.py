"""Formats of boxes: parsing, conversion to pixels, and the check against the image."""

from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from math import inf
from typing import Any

from palitune.data.sources.validation import are_numbers, short_repr
from palitune.errors import DataError, LeftOut
from palitune.records import Box, Size

_CORNER_NAMES = ("x0", "y0", "x1", "y1")
_DECIMALS = 2
"""Fractions are written with six decimals: rounding to .01 pixel restores whole pixels."""
_ROUNDING = 0.5
"""Pixels by which rounding moves a corner."""
SWAPPED_HINT = " With x and y swapped it lies inside; check whether y is written first."

CORNERS_HINT = (
    " As corners x0, y0, x1, y1 the numbers lie inside; write the width and the height instead."
)


class BoxClipping(Enum):
    """Boxes that are clipped to the image; others beyond its edge are an error."""

    edge = "edge"
    """Boxes up to 2 px or 1 % of the side beyond the edge."""
    all = "all"
    """All boxes that overlap the image."""
    none = "none"
    """No box, except for one pixel of rounding."""


@dataclass(frozen=True)
class BoxLimits:
    """How far boxes may lie beyond the edge of the image, and the boxes that were clipped."""

    clipping: BoxClipping = BoxClipping.edge
    left_out: list[LeftOut] = field(default_factory=list)
    """A record of each box that was clipped by more than half a pixel."""

    def slack(self, side: int) -> float:
        """Return the pixels that a box may lie beyond the edge of a side."""
        slacks = {BoxClipping.edge: max(2.0, 0.01 * side), BoxClipping.all: inf}
        return slacks.get(self.clipping, 1.0)

    def clip(self, corners: Box, size: Size, location: str) -> Box:
        """Return the part of a box inside the image, and record the part that is left out."""
        x0, y0, x1, y1 = corners
        width, height = float(size[0]), float(size[1])
        clipped = (max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height))
        if max(abs(a - b) for a, b in zip(corners, clipped, strict=True)) > _ROUNDING:
            self.left_out.append(LeftOut("parts of boxes beyond the edge of the image", location))
        return clipped


class BoxFormat(Enum):
    """Meaning of the four numbers of a box."""

    xyxy = "xyxy"
    """Left, top, right, bottom."""
    xywh = "xywh"
    """Left, top, width, height, as in COCO."""
    cxcywh = "cxcywh"
    """Center, width, height, as in YOLO."""


_FORMAT_DESCRIPTIONS = {
    BoxFormat.xyxy: "[x0, y0, x1, y1]",
    BoxFormat.xywh: "[x, y, width, height]",
    BoxFormat.cxcywh: "[center x, center y, width, height]",
}


@dataclass(frozen=True)
class BoxReader:
    """Parse boxes of one format; an error names the format that would fit."""

    format: BoxFormat
    normalized: bool = False
    """Coordinates are fractions of the image's sides instead of pixels."""
    is_user_setting: bool = False
    """The user chose the format with data.box_format and data.normalized."""
    limits: BoxLimits = field(default_factory=BoxLimits)
    """How far boxes may lie beyond the edge of the image."""

    @cached_property
    def description(self) -> str:
        unit = "in fractions of the image" if self.normalized else "in pixels"
        return f"{_FORMAT_DESCRIPTIONS[self.format]} {unit}"

    def read(self, value: Any, size: Size, location: str) -> Box:
        """Return the box in pixels. Raises DataError if it does not lie in the image."""
        numbers = parse_four_numbers(value, location, self.description)
        try:
            if self.normalized and max(map(abs, numbers)) > 2:
                raise DataError(
                    f"{location}: box must be in fractions, got {list(numbers)}. "
                    f"Boxes are {self.description}."
                )
            corners = self.to_xyxy(numbers, size)
            return validate_box(corners, size, location, self.description, self.limits)
        except DataError as error:
            message = str(error)
            if self._are_corners(numbers, size):
                message = message.removesuffix(SWAPPED_HINT) + CORNERS_HINT
            raise DataError(f"{message}{self._hint(numbers, size)}") from error

    def _are_corners(self, numbers: Box, size: Size) -> bool:
        """Return whether the numbers of x, y, width, height are the corners of a box."""
        corners = BoxReader(BoxFormat.xyxy, self.normalized).to_xyxy(numbers, size)
        is_preset = self.format is BoxFormat.xywh and not self.is_user_setting
        are_pixels = max(numbers) > 1  # fractions have an error of their own
        return is_preset and are_pixels and fits_image(corners, size)

    def to_xyxy(self, numbers: Box, size: Size) -> Box:
        """Return x0, y0, x1, y1 in pixels, unchecked."""
        a, b, c, d = numbers
        if self.format is BoxFormat.xywh:
            a, b, c, d = a, b, a + c, b + d
        elif self.format is BoxFormat.cxcywh:
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        if not self.normalized:
            return a, b, c, d
        x0, y0, x1, y1 = (
            round(fraction * side, _DECIMALS)
            for fraction, side in zip((a, b, c, d), (*size, *size), strict=True)
        )
        return x0, y0, x1, y1

    def _hint(self, numbers: Box, size: Size) -> str:
        """Return the setting with which the box would lie in the image, if there is one."""
        if not self.is_user_setting:
            return ""
        fractions = max(numbers) <= 1
        if fractions is not self.normalized and (not fractions or any(n % 1 for n in numbers)):
            return f" Set data.normalized={str(fractions).lower()}."
        for other in BoxFormat:
            if other is not self.format and fits_image(
                BoxReader(other, self.normalized).to_xyxy(numbers, size), size
            ):
                return f" Set data.box_format={other.value}, with which it lies inside."
        return ""


def parse_four_numbers(
    value: Any, location: str, expected: str
) -> tuple[float, float, float, float]:
    """Return the numbers of a box. Raises DataError with the description `expected` in it."""
    if isinstance(value, list) and len(value) == 4 and are_numbers(value):
        a, b, c, d = value
        return float(a), float(b), float(c), float(d)
    raise DataError(
        f"{location}: box must be four numbers, got {short_repr(value)}. Boxes are {expected}."
    )


def validate_box(
    corners: Box, size: Size, location: str, expected: str, limits: BoxLimits | None = None
) -> Box:
    """Return a box clipped to the image.

    Args:
        corners: x0, y0, x1, y1 in pixels.
        size: (width, height) of the image in pixels.
        location: Place of the box, for the message.
        expected: Description of the box format, for the message.
        limits: How far the box may lie beyond the edge of the image; None: the default.

    Raises:
        DataError: The box has no area, lies further outside the image or is in fractions.
    """
    width, height = size
    x0, y0, x1, y1 = corners
    if 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and x1 + y1 > 2:
        return corners
    if max(corners) <= 1 and any(corner % 1 for corner in corners):
        raise DataError(
            f"{location}: box must be in pixels, got fractions {list(corners)}. "
            f"Boxes are {expected}."
        )
    limits = limits or BoxLimits()
    for name, value, side in zip(_CORNER_NAMES, corners, (width, height) * 2, strict=True):
        slack = limits.slack(side)
        if not -slack <= value <= side + slack:
            swapped = SWAPPED_HINT if fits_image((y0, x0, y1, x1), size) else ""
            raise DataError(
                f"{location}: box must lie inside the image ({width}x{height} px), "
                f"got {name}={value:g}. Boxes are {expected}.{swapped}"
            )
    if min(x1, width) <= max(x0, 0) or min(y1, height) <= max(y0, 0):
        raise DataError(
            f"{location}: box must have an area, got {list(corners)}. Boxes are {expected}."
        )
    return limits.clip(corners, size, location)


def fits_image(corners: Box, size: Size) -> bool:
    """Return whether a box has an area and lies in the image, within one pixel."""
    x0, y0, x1, y1 = corners
    return -1 <= x0 < x1 <= size[0] + 1 and -1 <= y0 < y1 <= size[1] + 1
