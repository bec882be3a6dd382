"""The ways in which four numbers are a box."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from palitune.data.sources.validation import fits_image, parse_four_numbers, validate_box
from palitune.errors import DataError
from palitune.records import Box, Size


class BoxFormat(Enum):
    """What the four numbers are."""

    xyxy = "xyxy"
    """Left, top, right, bottom."""
    xywh = "xywh"
    """Left, top, width, height, as COCO writes them."""
    cxcywh = "cxcywh"
    """Centre, width, height, as YOLO writes them."""


_FORMAT_DESCRIPTIONS = {
    BoxFormat.xyxy: "[x0, y0, x1, y1]",
    BoxFormat.xywh: "[x, y, width, height]",
    BoxFormat.cxcywh: "[centre x, centre y, width, height]",
}


_DECIMALS = 2
"""Fractions are written with six decimals: hundredths of a pixel bring whole pixels back."""


@dataclass(frozen=True)
class BoxReader:
    """Read boxes of one form, and say which form would explain a box that does not fit."""

    format: BoxFormat
    normalized: bool = False
    """Coordinates are fractions of the image's sides instead of pixels."""
    is_user_setting: bool = False
    """The user chose the form with data.box_format and data.normalized."""

    @property
    def description(self) -> str:
        unit = "in fractions of the image" if self.normalized else "in pixels"
        return f"{_FORMAT_DESCRIPTIONS[self.format]} {unit}"

    def read(self, value: Any, size: Size, location: str) -> Box:
        """Return the box in pixels. Raises DataError where it does not lie in the image."""
        numbers = parse_four_numbers(value, location, self.description)
        try:
            if self.normalized and max(map(abs, numbers)) > 2:
                raise DataError(
                    f"{location}: box {list(numbers)} is not in fractions; boxes are {self.description}"
                )
            return validate_box(self.to_xyxy(numbers, size), size, location, self.description)
        except DataError as mistake:
            raise DataError(f"{mistake}{self._hint(numbers, size)}") from mistake

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
        """Name the settings under which the box would lie in the image."""
        if not self.is_user_setting:
            return ""
        fractions = max(numbers) <= 1
        if fractions is not self.normalized and (not fractions or any(n % 1 for n in numbers)):
            return f"; set data.normalized={str(fractions).lower()}"
        for other in BoxFormat:
            if other is not self.format and fits_image(
                BoxReader(other, self.normalized).to_xyxy(numbers, size), size
            ):
                return f"; with data.box_format={other.value} it lies inside"
        return ""
