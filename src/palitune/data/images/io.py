"""Image files: their size without decoding, and their pixels upright and in RGB.

Imports Pillow, and what decodes faster than it; import this module lazily.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from palitune.data.images import fast_decoding
from palitune.errors import DataError
from palitune.records import Size

ImagePath = str | PathLike[str]

_EXIF_ORIENTATION = 0x0112
# EXIF 2.3, tag Orientation: the operation that turns the stored pixels upright.
_ORIENTATION_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TRANSPOSED_ORIENTATIONS = (5, 6, 7, 8)
_JPEG_TAIL = 4096
"""Bytes at the end of a JPEG that are searched for its end marker before all of it is decoded."""


class Header(NamedTuple):
    """What a file's header says."""

    size: Size
    """(width, height) in pixels of the upright image."""
    transposed: bool
    """The EXIF orientation swaps width and height."""


def open_image(path: ImagePath) -> Image.Image:
    """Decode a file into an upright RGB image, its first frame; transparency becomes white.

    16 bits per channel are scaled to 8. Raises DataError where the file cannot be read.
    """
    return to_rgb(decode_image(path))


def decode_image(path: ImagePath) -> Image.Image:
    """As `open_image`, but 8 bits of grey may be left as they are, in mode L."""
    with _open_image_file(path) as image:
        if image.format == "PNG" and not _png_has_orientation(Path(path)):
            return fast_decoding.decode_png(image, Path(path)) or _load_rgb(image)
        decoded = fast_decoding.decode_jpeg(image, Path(path)) or _load_rgb(image)
        upright = _ORIENTATION_TRANSPOSES.get(_exif_orientation(image))
        return decoded if upright is None else decoded.transpose(upright)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, without a copy where it is."""
    return image if image.mode == "RGB" else image.convert("RGB")


def read_size(path: ImagePath) -> Size:
    """Return (width, height) in pixels of the upright image; see `read_header`."""
    return read_header(path).size


def read_header(path: ImagePath) -> Header:
    """Read size and orientation without decoding, and check that a JPEG or PNG has its end.

    Raises DataError where the file is missing, truncated or not an image.
    """
    with _open_image_file(path) as image:
        orientation = _header_orientation(image, Path(path))
        width, height = image.size
        if orientation in _TRANSPOSED_ORIENTATIONS:
            return Header((height, width), transposed=True)
        return Header((width, height), transposed=False)


@contextmanager
def _open_image_file(path: ImagePath) -> Iterator[Image.Image]:
    """Open a file, and turn whatever Pillow raises into one sentence."""
    try:
        with Image.open(path) as image:
            if image.mode in ("I", "F"):
                raise DataError(
                    f"image {path} has 32 bits per pixel (mode {image.mode}), whose range is "
                    "unknown; save it with 8 or 16 bits"
                )
            yield image
    except FileNotFoundError:
        raise DataError(f"image {path} does not exist") from None
    except UnidentifiedImageError:
        raise DataError(f"image {path} is not in a format that can be read; save it anew") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise DataError(
            f"image {path} has more than {limit} million pixels; make it smaller"
        ) from None
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, struct.error) as mistake:
        raise DataError(f"image {path} cannot be read ({mistake}); save it anew") from mistake


def _load_rgb(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((pixels * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return to_rgb(image)


def _exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation that Pillow has not applied itself; 1 where there is no legible EXIF."""
    if image.format == "TIFF":  # turned upright by Pillow's own reader
        return 1
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except (ValueError, TypeError, SyntaxError, struct.error):
        return 1


def _header_orientation(image: Image.Image, path: Path) -> int:
    if image.format in ("JPEG", "MPO"):
        _check_jpeg_end(image, path)
    elif image.format == "PNG" and not _png_has_orientation(path):
        return 1  # else Pillow decodes the whole image to look for it
    return _exif_orientation(image)


def _png_has_orientation(path: Path) -> bool:
    """Tell whether a PNG may say how it is turned; raise DataError where it is truncated."""
    with path.open("rb") as file:
        return _scan_png(file, path)


def _check_jpeg_end(image: Image.Image, path: Path) -> None:
    """Decode a JPEG without end marker near its end: it is truncated, or has a long trailer."""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _JPEG_TAIL, 0))
        if b"\xff\xd9" not in file.read():
            image.load()


def _scan_png(file: BinaryIO, path: Path) -> bool:
    """Walk a PNG's chunks to its end; return whether one of them may give an orientation."""
    file.seek(8)
    has_orientation = False
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return has_orientation
        start = file.read(min(length, 32)) if kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt") else b""
        has_orientation |= kind == b"eXIf" or start.startswith((b"XML:com.adobe", b"Raw profile"))
        file.seek(length - len(start) + 4, 1)
    raise DataError(f"image {path} is truncated; copy or save it anew")
