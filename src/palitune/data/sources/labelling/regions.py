"""Shapes that labelling programs draw, and the images that their files name."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import cos, pi, sin
from pathlib import Path

from palitune.data.sources.box_formats import BoxLimits, validate_box
from palitune.data.sources.masks.formats import mask_to_box, parse_segmentation, polygon_to_box
from palitune.errors import DataError
from palitune.records import Instance, Mask, Size

_CIRCLE_POINTS = 72


@dataclass(frozen=True)
class RegionReader:
    """Builds objects from shapes in pixels."""

    masks: bool
    """Give objects a mask where the shape is one."""
    expected: str
    """Description of rectangles, for messages."""
    limits: BoxLimits = field(default_factory=BoxLimits)

    def rectangle(
        self, label: str, corners: tuple[float, float, float, float], size: Size, location: str
    ) -> Instance:
        """Return the object of x0, y0, x1, y1 in pixels."""
        return Instance(label, validate_box(corners, size, location, self.expected, self.limits))

    def polygons(
        self, label: str, polygons: list[list[float]], size: Size, location: str
    ) -> Instance:
        """Return the object of one or several polygons x, y, x, y, ... in pixels."""
        mask = parse_segmentation(polygons, size, location)  # also checks the points
        points = [number for polygon in polygons for number in polygon]
        corners = polygon_to_box(points)
        box = validate_box(corners, size, location, self.expected, self.limits)
        return Instance(label, box, mask if self.masks else None)

    def mask(self, label: str, mask: Mask, location: str) -> Instance:
        """Return the object of a (height, width) mask."""
        if not mask.any():
            raise DataError(
                f"{location}: mask must have at least one pixel, got none. Drop or redraw it."
            )
        return Instance(label, mask_to_box(mask), mask if self.masks else None)


def paste_mask(part: Mask, left: int, top: int, size: Size, location: str) -> Mask:
    """Return the (height, width) mask of an image of which a rectangle is given.

    Args:
        part: The rectangle, bool.
        left: Column of its first pixel in the image.
        top: Row of its first pixel in the image.
        size: (width, height) of the image.
        location: Place of the mask, for the message.

    Raises:
        DataError: The rectangle does not lie inside the image.
    """
    import numpy as np

    height, width = part.shape
    if left < 0 or top < 0 or left + width > size[0] or top + height > size[1]:
        raise DataError(
            f"{location}: mask must lie inside the image ({size[0]}x{size[1]} px), got "
            f"{width}x{height} px at ({left}, {top}). Redraw it."
        )
    mask: Mask = np.zeros((size[1], size[0]), bool)
    mask[top : top + height, left : left + width] = part
    return mask


def find_image(
    names: Sequence[str], images: str | None, root: Path, usual: Iterable[Path]
) -> tuple[str | None, list[Path]]:
    """Return the absolute path of the first name that is a file, and the searched folders.

    Args:
        names: Possible names, the most precise first.
        images: The setting `data.images`.
        root: Folder of the data, which `images` is relative to.
        usual: Folders to search without the setting.
    """
    folders = list(usual) if images is None else [root / Path(images).expanduser()]
    for name in names:
        for folder in folders:
            if os.path.isfile(file := folder / name):
                return os.path.abspath(file), folders
    return None, folders


def missing_image(name: str, folders: Iterable[Path], location: str) -> DataError:
    """Return the error about an image that is in none of the folders."""
    searched = ", ".join(dict.fromkeys(map(str, folders)))
    return DataError(
        f"{location}: image {name!r} must be in one of the folders {searched}, got none. Set "
        "data.images=FOLDER."
    )


def circle_points(x: float, y: float, radius_x: float, radius_y: float) -> list[float]:
    """Return a polygon x, y, x, y, ... around an ellipse in pixels."""
    angles = [2 * pi * step / _CIRCLE_POINTS for step in range(_CIRCLE_POINTS)]
    return [side for a in angles for side in (x + radius_x * cos(a), y + radius_y * sin(a))]
