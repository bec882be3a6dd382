"""Outlines of masks as polygons, for drawings and for annotation formats without pixel masks."""

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    BoolMask = npt.NDArray[np.bool_]
    Polygon = npt.NDArray[np.float64]

Point = tuple[int, int]


def mask_outlines(mask: "BoolMask", tolerance: float = 1.0) -> "list[Polygon]":
    """Trace the borders of a mask along the edges of its pixels.

    Filled with the even-odd rule, the polygons of tolerance 0 cover exactly the mask: the border
    of a hole is a polygon of its own.

    Args:
        mask: (height, width) bool.
        tolerance: Maximum distance in pixels between a border and its polygon.

    Returns:
        Polygons of (points, 2) x and y in pixels, from the longest border to the shortest.
    """
    import numpy as np

    rings = [np.array(ring, float) for ring in _trace_rings(_border_edges(mask))]
    polygons = [_simplify_ring(ring, tolerance) for ring in rings]
    return sorted((p for p in polygons if len(p) > 2), key=len, reverse=True)


def _border_edges(mask: "BoolMask") -> dict[Point, list[Point]]:
    """Return the pixel edges between inside and outside, with the inside on their right."""
    import numpy as np

    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    # Neighbor outside, then start and end of the edge relative to the pixel's upper left corner.
    sides = (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),
        (padded[1:-1, 2:], (1, 0), (1, 1)),
        (padded[2:, 1:-1], (1, 1), (0, 1)),
        (padded[1:-1, :-2], (0, 1), (0, 0)),
    )
    edges: dict[Point, list[Point]] = defaultdict(list)
    for neighbor, start, end in sides:
        for y, x in np.argwhere(inside & ~neighbor).tolist():
            edges[(x + start[0], y + start[1])].append((x + end[0], y + end[1]))
    return edges


def _trace_rings(edges: dict[Point, list[Point]]) -> list[list[Point]]:
    """Chain edges to closed rings; as many edges end in a point as start there."""
    rings = []
    while edges:
        start = next(iter(edges))
        ring, point = [start], _take_edge(edges, start)
        while point != start:
            ring.append(point)
            point = _take_edge(edges, point)
        rings.append(ring)
    return rings


def _take_edge(edges: dict[Point, list[Point]], start: Point) -> Point:
    end = edges[start].pop()
    if not edges[start]:
        del edges[start]
    return end


def _simplify_ring(ring: "Polygon", tolerance: float) -> "Polygon":
    """Leave out points by the algorithm of Douglas and Peucker (1973), on both halves of a ring."""
    import numpy as np

    far = int(np.argmax(((ring - ring[0]) ** 2).sum(1)))
    closed = np.concatenate([ring, ring[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far, -1]] = True
    spans = [(0, far), (far, len(ring))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        distances = _distances(closed[first + 1 : last], closed[first], closed[last])
        farthest = int(np.argmax(distances))
        if distances[farthest] > tolerance:
            middle = first + 1 + farthest
            keep[middle] = True
            spans += [(first, middle), (middle, last)]
    return closed[:-1][keep[:-1]]


def _distances(points: "Polygon", start: "Polygon", end: "Polygon") -> "npt.NDArray[np.float64]":
    """Return the distance of (points, 2) from the line through two points."""
    import numpy as np

    direction, offset = end - start, points - start
    length = float(np.hypot(*direction))
    if length == 0:
        return np.hypot(offset[:, 0], offset[:, 1])
    cross = offset[:, 0] * direction[1] - offset[:, 1] * direction[0]
    distances: npt.NDArray[np.float64] = np.abs(cross) / length
    return distances
