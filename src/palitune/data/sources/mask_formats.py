"""Masks as annotation files write them: polygons and COCO's run lengths; objects out of id maps."""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from palitune.data.sources.validation import are_numbers, short_repr
from palitune.errors import DataError
from palitune.records import Box, Mask, Size

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MASK_DESCRIPTION = (
    "polygons [[x0, y0, x1, y1, x2, y2, ...], ...] or run lengths {'size': [h, w], 'counts': ...}"
)
_MAX_OUTSIDE_FRACTION = 0.1
"""Share of a mask that may lie outside its box: annotators draw the two by hand."""
_UNIT_SIZE: Size = (1, 1)
"""The sides of an image in normalized coordinates."""


def parse_segmentation(
    segmentation: Any, size: Size, location: str, *, normalized: bool = False
) -> Mask:
    """Return the (height, width) mask that polygons or run lengths stand for.

    Polygons may be a list of flat lists, one flat list, or lists of [x, y]. Raises DataError
    where it is neither, does not go with the image, or has no pixel.
    """
    if isinstance(segmentation, dict):
        mask = _mask_from_rle(segmentation, size, location)
    elif isinstance(segmentation, list) and segmentation:
        mask = _mask_from_polygons(_normalize_polygons(segmentation), size, location, normalized)
    else:
        raise DataError(
            f"{location}: mask {short_repr(segmentation)} is neither; masks are {MASK_DESCRIPTION}"
        )
    if not mask.any():
        raise DataError(f"{location}: mask has no pixels; drop the object or draw it anew")
    return mask


def check_mask_in_box(mask: Mask, box: Box, location: str) -> None:
    """Refuse a mask that lies elsewhere than its box, give or take a pixel."""
    x0, y0, x1, y1 = box
    inside = mask[max(int(y0) - 1, 0) : ceil(y1) + 1, max(int(x0) - 1, 0) : ceil(x1) + 1]
    total = int(mask.sum())
    stray = total - int(inside.sum())
    if stray > _MAX_OUTSIDE_FRACTION * total:
        other = mask_to_box(mask)
        swapped = ""
        if _overlap((y0, x0, y1, x1), other) > 0.5:
            swapped = "; with x and y swapped it would not: is y written first?"
        raise DataError(
            f"{location}: mask lies outside its box: {stray} of {total} pixels, it covers "
            f"{[round(side) for side in other]} and the box is {[round(side) for side in box]}; "
            f"correct one of them{swapped}"
        )


def mask_to_box(mask: Mask) -> Box:
    """Return the smallest box around a mask that has pixels."""
    import numpy as np

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def polygon_to_box(points: Sequence[float]) -> Box:
    """Return the smallest box around a flat list of x, y."""
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])


def connected_components(mask: Mask) -> Iterator[Mask]:
    """Yield the connected regions of a mask (pixels touch at sides or corners), top ones first."""
    import numpy as np

    labels = np.zeros(mask.shape, np.int32)
    parent = [0]
    above: list[tuple[int, int, int]] = []
    for y, line in enumerate(mask):
        edges = np.flatnonzero(np.diff(line, prepend=False, append=False))
        runs = []
        for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            touched = {
                _find_root(parent, n) for first, last, n in above if first <= end and start <= last
            }
            number = min(touched, default=len(parent))
            if not touched:
                parent.append(number)
            for other in touched:
                parent[other] = number
            labels[y, start:end] = number
            runs.append((start, end, number))
        above = runs
    roots = np.array([_find_root(parent, number) for number in range(len(parent))])
    joined = roots[labels]
    for number in np.unique(joined[mask]):
        yield joined == number


def _find_root(parent: list[int], number: int) -> int:
    while parent[number] != number:
        parent[number] = parent[parent[number]]
        number = parent[number]
    return number


def _overlap(a: Box, b: Box) -> float:
    """Return the share of `b` that lies in `a`."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / ((b[2] - b[0]) * (b[3] - b[1]))


def _normalize_polygons(segmentation: list[Any]) -> list[Any]:
    """Bring the ways to write polygons into one: a list of flat lists."""
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
    from pycocotools import mask as runs

    width, height = size
    for polygon in polygons:
        _check_polygon(polygon, _UNIT_SIZE if normalized else size, location)
    if normalized:
        polygons = [[c * size[i % 2] for i, c in enumerate(polygon)] for polygon in polygons]
    polygons = [[float(c) for c in polygon] for polygon in polygons]
    merged = runs.merge(runs.frPyObjects(polygons, height, width))
    lengths = _decompress_rle(merged["counts"])
    assert lengths is not None  # pycocotools wrote it
    return _mask_from_run_lengths(lengths, size)


def _check_polygon(polygon: Any, size: Size, location: str) -> None:
    if not isinstance(polygon, list) or not are_numbers(polygon) or len(polygon) % 2:
        raise DataError(
            f"{location}: polygon {short_repr(polygon)} is not a flat list of x, y, x, y, ...; "
            f"masks are {MASK_DESCRIPTION}"
        )
    if len(polygon) < 6:
        raise DataError(
            f"{location}: polygon {short_repr(polygon)} has {len(polygon) // 2} points, but an area needs "
            "3; drop or redraw it"
        )
    box = polygon_to_box(polygon)
    if not _is_inside_image(box, size):
        swapped = ""
        if _is_inside_image((box[1], box[0], box[3], box[2]), size):
            swapped = "; with x and y swapped it lies inside: is y written first?"
        unit = "in fractions" if size == _UNIT_SIZE else f"{size[0]}x{size[1]} px"
        raise DataError(
            f"{location}: polygon covers {[round(side, 3) for side in box]}, which lies outside the "
            f"image ({unit}){swapped}"
        )


def _is_inside_image(box: Box, size: Size) -> bool:
    slack = 0.01 if size == _UNIT_SIZE else 1
    return min(box) >= -slack and box[2] <= size[0] + slack and box[3] <= size[1] + slack


def _mask_from_rle(rle: dict[str, Any], size: Size, location: str) -> Mask:
    import numpy as np

    width, height = size
    if rle.get("size") != [height, width]:
        raise DataError(
            f"{location}: mask has run lengths of size {short_repr(rle.get('size'))}, but the image is "
            f"[{height}, {width}] (height, width); export the mask for this image"
        )
    counts = rle.get("counts")
    if isinstance(counts, str | bytes):
        lengths = _decompress_rle(counts)
    elif isinstance(counts, list) and {int}.issuperset(map(type, counts)) and are_numbers(counts):
        lengths = np.array(counts, np.int64)
    else:
        lengths = None
    if lengths is None or (lengths < 0).any() or lengths.sum() != width * height:
        raise DataError(
            f"{location}: mask has run lengths {short_repr(counts)} that do not add up to the image's "
            f"{width * height} pixels; export the mask anew"
        )
    return _mask_from_run_lengths(lengths, size)


def _mask_from_run_lengths(run_lengths: "npt.NDArray[np.int64]", size: Size) -> Mask:
    """Return the mask whose columns, one after the other, are runs of outside and inside."""
    import numpy as np

    inside = np.arange(len(run_lengths)) % 2 == 1
    mask: Mask = np.repeat(inside, run_lengths).reshape(size).T
    return mask


def _decompress_rle(counts: str | bytes) -> "npt.NDArray[np.int64] | None":
    """Read COCO's compressed run lengths; None where they are damaged.

    As pycocotools' `rleFrString` does, but sure to stay within the image: from ASCII 48 on, six
    bits a character, five of a number and one for "more follows"; a number is signed, and from the
    fourth on the difference to the number before the last.
    """
    import numpy as np

    raw = np.frombuffer(
        counts.encode("ascii", "replace") if isinstance(counts, str) else counts, np.uint8
    )
    codes = raw.astype(np.int64) - 48
    if not len(codes) or (codes < 0).any() or (codes > 63).any() or codes[-1] & 32:
        return None
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 7:
        return None
    digit = np.arange(len(codes)) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 31) << (5 * digit), starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
