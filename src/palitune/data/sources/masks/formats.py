"""Masks in annotation files: polygons and COCO's run-length encoding (RLE)."""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

from palitune.codec.run_lengths import decode_run_lengths
from palitune.data.sources.box_formats import SWAPPED_HINT
from palitune.data.sources.validation import are_numbers, short_repr
from palitune.errors import DataError
from palitune.metrics.objects.matching import box_area, intersection_area
from palitune.records import Box, Mask, Size

MASK_DESCRIPTION = (
    "polygons [[x0, y0, x1, y1, x2, y2, ...], ...] or run lengths {'size': [h, w], 'counts': ...}"
)
_MAX_OUTSIDE_FRACTION = 0.1
"""Part of a mask that may lie outside its box: annotators draw the two by hand."""
_UNIT_SIZE: Size = (1, 1)
"""Size of an image in normalized coordinates."""


def parse_segmentation(
    segmentation: Any,
    size: Size,
    location: str,
    *,
    normalized: bool = False,
    allow_empty: bool = False,
) -> Mask:
    """Decode the mask of an annotation or of a prediction.

    Args:
        segmentation: A list of flat polygons, one flat polygon, one or several lists of [x, y], or
            COCO's run lengths, compressed or not.
        size: (width, height) of the image in pixels.
        location: Place of the annotation, for the message.
        normalized: Polygons are in fractions of the image's sides.
        allow_empty: Accept a mask without a pixel.

    Returns:
        (height, width) bool.

    Raises:
        DataError: The value is neither, does not fit the image, or has no pixel.
    """
    if isinstance(segmentation, dict):
        try:
            mask = decode_run_lengths(segmentation, size)
        except ValueError as error:
            raise DataError(f"{location}: {error}") from None
    elif isinstance(segmentation, list) and segmentation:
        mask = _mask_from_polygons(_flat_polygons(segmentation), size, location, normalized)
    else:
        raise DataError(
            f"{location}: mask must be {MASK_DESCRIPTION}, got {short_repr(segmentation)}."
        )
    if not allow_empty and not mask.any():
        raise DataError(
            f"{location}: mask must have at least one pixel, got none. Drop or redraw the object."
        )
    return mask


def check_mask_in_box(mask: Mask, box: Box, location: str) -> None:
    """Raise DataError if more than a tenth of a mask lies outside its box."""
    x0, y0, x1, y1 = box
    inside = mask[max(int(y0) - 1, 0) : ceil(y1) + 1, max(int(x0) - 1, 0) : ceil(x1) + 1]
    total = int(mask.sum())
    outside = total - int(inside.sum())
    if outside > _MAX_OUTSIDE_FRACTION * total:
        extent = mask_to_box(mask)
        covered = intersection_area((y0, x0, y1, x1), extent) / box_area(extent)
        swapped = SWAPPED_HINT if covered > 0.5 else ""
        raise DataError(
            f"{location}: mask must lie in its box {[round(side) for side in box]}, got "
            f"{[round(side) for side in extent]} with {outside} of {total} pixels outside. "
            f"Correct the mask or the box.{swapped}"
        )


def mask_to_box(mask: Mask) -> Box:
    """Return the smallest box around a mask that is not empty."""
    import numpy as np

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def polygon_to_box(points: Sequence[float]) -> Box:
    """Return the smallest box around a flat list x, y, x, y, ..."""
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])


def connected_components(mask: Mask) -> Iterator[Mask]:
    """Yield the 8-connected regions of a mask, ordered by their first row.

    Runs of pixels are joined to the runs of the row above with a union-find forest.
    """
    import numpy as np

    labels = np.zeros(mask.shape, np.int32)
    parent = [0]
    previous_runs: list[tuple[int, int, int]] = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(row, prepend=False, append=False))
        runs = []
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            roots = {
                _find_root(parent, label)
                for first, last, label in previous_runs
                if first <= end and start <= last
            }
            label = min(roots, default=len(parent))
            if not roots:
                parent.append(label)
            for root in roots:
                parent[root] = label
            labels[y, start:end] = label
            runs.append((start, end, label))
        previous_runs = runs
    components = np.array([_find_root(parent, label) for label in range(len(parent))])[labels]
    for label in np.unique(components[mask]):
        yield components == label


def _find_root(parent: list[int], label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


def _flat_polygons(segmentation: list[Any]) -> list[Any]:
    """Convert every notation of polygons to a list of flat lists."""
    if not isinstance(segmentation[0], list):
        return [segmentation]
    if len(segmentation[0]) == 2 and not isinstance(segmentation[0][0], list):
        return [_flatten_polygon(segmentation)]
    return [_flatten_polygon(polygon) for polygon in segmentation]


def _flatten_polygon(polygon: Any) -> Any:
    if isinstance(polygon, list) and all(isinstance(p, list) and len(p) == 2 for p in polygon):
        return [side for point in polygon for side in point]
    return polygon


def _mask_from_polygons(polygons: list[Any], size: Size, location: str, normalized: bool) -> Mask:
    from pycocotools import mask as coco_mask

    width, height = size
    for polygon in polygons:
        _check_polygon(polygon, _UNIT_SIZE if normalized else size, location)
    scale = size if normalized else _UNIT_SIZE
    scaled = [[float(c * scale[i % 2]) for i, c in enumerate(polygon)] for polygon in polygons]
    return decode_run_lengths(coco_mask.merge(coco_mask.frPyObjects(scaled, height, width)))


def _check_polygon(polygon: Any, size: Size, location: str) -> None:
    if not isinstance(polygon, list) or not are_numbers(polygon) or len(polygon) % 2:
        raise DataError(
            f"{location}: polygon must be a flat list of x, y, x, y, ..., got "
            f"{short_repr(polygon)}. Masks are {MASK_DESCRIPTION}."
        )
    if len(polygon) < 6:
        raise DataError(
            f"{location}: polygon must have at least 3 points, got {len(polygon) // 2} in "
            f"{short_repr(polygon)}. Drop or redraw it."
        )
    box = polygon_to_box(polygon)
    if not _is_inside_image(box, size):
        x0, y0, x1, y1 = box
        swapped = SWAPPED_HINT if _is_inside_image((y0, x0, y1, x1), size) else ""
        unit = "in fractions" if size == _UNIT_SIZE else f"{size[0]}x{size[1]} px"
        raise DataError(
            f"{location}: polygon must lie inside the image ({unit}), got the box "
            f"{[round(side, 3) for side in box]}. Correct or drop it.{swapped}"
        )


def _is_inside_image(box: Box, size: Size) -> bool:
    slack = 0.01 if size == _UNIT_SIZE else 1
    return min(box) >= -slack and box[2] <= size[0] + slack and box[3] <= size[1] + slack
