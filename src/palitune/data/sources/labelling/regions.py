"""Shapes that labelling programs draw: the object of a rectangle, polygon, circle or mask."""

from dataclasses import dataclass, field
from math import cos, pi, sin

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


def circle_points(x: float, y: float, radius_x: float, radius_y: float) -> list[float]:
    """Return a polygon x, y, x, y, ... around an ellipse in pixels."""
    angles = [2 * pi * step / _CIRCLE_POINTS for step in range(_CIRCLE_POINTS)]
    return [side for a in angles for side in (x + radius_x * cos(a), y + radius_y * sin(a))]
