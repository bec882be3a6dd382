"""Masks as COCO's run lengths (RLE): the only place that reads them.

Run lengths count pixels down the columns, outside and inside the mask in turn. The number of runs
and every length are checked against the size before a pixel is written: numpy and pycocotools
write and read past the end of their buffers if lengths do not add up.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    BoolMask = npt.NDArray[np.bool_]
    Lengths = npt.NDArray[np.int64]

MAX_MASK_PIXELS = 1 << 28
"""Pixels of a mask; more than the largest image that Pillow opens without an error."""
_MAX_DIGITS = 7
"""Characters of one compressed length: 35 bits, above `MAX_MASK_PIXELS`."""


def decode_run_lengths(rle: Any, size: tuple[int, int] | None = None) -> "BoolMask":
    """Decode COCO's run lengths, compressed or not.

    Args:
        rle: `{"size": [height, width], "counts": ...}`, as parsed from JSON.
        size: (width, height) in pixels that the mask must have; None: any.

    Returns:
        (height, width) bool.

    Raises:
        ValueError: The run lengths are damaged or of another size.
    """
    import numpy as np

    height, width = _checked_size(rle, size)
    lengths = _checked_lengths(rle.get("counts"), height * width)
    is_inside = np.arange(len(lengths)) % 2 == 1
    mask: BoolMask = np.repeat(is_inside, lengths).reshape(width, height).T
    return mask


def to_compressed_rle(rle: Any, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return checked run lengths in the form that pycocotools reads.

    Arguments and errors are those of `decode_run_lengths`.
    """
    from pycocotools import mask as coco_mask

    height, width = _checked_size(rle, size)
    counts = rle.get("counts")
    lengths = _checked_lengths(counts, height * width)
    if isinstance(counts, list):
        uncompressed = {"size": [height, width], "counts": lengths.tolist()}
        compressed: dict[str, Any] = coco_mask.frPyObjects(uncompressed, height, width)
        return compressed
    return {"size": [height, width], "counts": counts}


def _checked_size(rle: Any, size: tuple[int, int] | None) -> tuple[int, int]:
    """Return height and width. Raises ValueError if they are not those of `size`."""
    declared = rle.get("size") if isinstance(rle, dict) else None
    valid = (
        isinstance(declared, list | tuple)
        and len(declared) == 2
        and all(type(side) is int and 0 < side <= MAX_MASK_PIXELS for side in declared)
    )
    if size is not None and (not valid or list(declared or ()) != [size[1], size[0]]):
        raise ValueError(
            f"run lengths must have the size [{size[1]}, {size[0]}] (height, width) of the image, "
            f"got {_short_repr(declared)}. Export the mask for this image."
        )
    if declared is None or not valid or declared[0] * declared[1] > MAX_MASK_PIXELS:
        raise ValueError(
            f"run lengths must have a size [height, width] of at most {MAX_MASK_PIXELS} pixels, "
            f"got {_short_repr(declared)}. Export the mask again."
        )
    return declared[0], declared[1]


def _checked_lengths(counts: Any, num_pixels: int) -> "Lengths":
    """Return the lengths of all runs. Raises ValueError if they do not fill the mask exactly."""
    lengths = None
    if isinstance(counts, str | bytes):
        lengths = _decompress(counts, num_pixels)
    elif isinstance(counts, list):
        lengths = _lengths_from_list(counts, num_pixels)
    # No length exceeds 2**28, so that the sum of less than 2**35 of them does not overflow.
    if lengths is None or int(lengths.sum()) != num_pixels:
        raise ValueError(
            f"run lengths must add up to the {num_pixels} pixels of the image, got "
            f"{_short_repr(counts)}. Export the mask again."
        )
    return lengths


def _lengths_from_list(counts: list[Any], num_pixels: int) -> "Lengths | None":
    import numpy as np

    if not counts or {int} != set(map(type, counts)):
        return None
    if min(counts) < 0 or max(counts) > num_pixels:
        return None
    return np.array(counts, np.int64)


def _decompress(counts: str | bytes, num_pixels: int) -> "Lengths | None":
    """Decompress COCO's run lengths; return None if they are damaged or one is out of range.

    The format is that of pycocotools' `rleFrString`, which reads past the end of damaged input.
    From ASCII 48 on, a character holds six bits: five of a number and one for "more follows". A
    number is signed, and from the fourth on the difference to the number before the last.
    """
    import numpy as np

    raw = counts.encode("ascii", "replace") if isinstance(counts, str) else counts
    codes = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if not len(codes) or (codes < 0).any() or (codes > 63).any() or codes[-1] & 32:
        return None
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    digits = ends - starts + 1
    if digits.max() > _MAX_DIGITS:
        return None
    position = np.arange(len(codes)) - np.repeat(starts, digits)
    values = np.add.reduceat((codes & 31) << (5 * position), starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * digits), 0)
    # Differences of valid lengths lie within the mask. Larger ones could wrap around when summed.
    if (np.abs(values) > num_pixels).any():
        return None
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return None if (values < 0).any() or (values > num_pixels).any() else values


def _short_repr(value: Any) -> str:
    """Return the start of `repr(value)` without writing a long value out."""
    import reprlib

    return reprlib.repr(value)
