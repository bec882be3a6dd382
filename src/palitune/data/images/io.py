"""Image files: size without decoding, and decoded pixels upright in RGB.

JPEG and PNG are decoded without Pillow to the same pixels in about half the time: JPEG by
simplejpeg (libjpeg-turbo, the decoder that Pillow uses) without a copy, PNG by kornia-rs, which
inflates and unfilters three times as fast as libpng. Pillow decodes everything else (CMYK,
palettes, transparency, 16 bits) and reports damaged files.

An image is a path, or an `EncodedImage`: the bytes of a file that was never written, as a server
receives it.

This module imports Pillow and the decoders; import it lazily.
"""

import hashlib
import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from palitune.data.images.jpeg_header import has_jpeg_end, ordinary_jpeg_size
from palitune.errors import DataError
from palitune.records import Size

ImagePath = str | PathLike[str]
"""A path, or an EncodedImage."""

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
_PILLOW_ERRORS = (
    OSError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, EOFError,
    struct.error,
)  # fmt: skip
"""Errors that Pillow raises for damaged files, e.g. TypeError for a TIFF tag of another type."""
_CHANNELS = {"RGB": "RGBX", "L": "GRAY"}
"""libjpeg-turbo's names for the memory layouts of Pillow's modes."""


class Header(NamedTuple):
    """Image properties that are known without decoding."""

    size: Size
    """(width, height) in pixels of the upright image."""
    transposed: bool
    """The EXIF orientation swaps width and height."""


class EncodedImage(str):
    """The bytes of an image file, wherever a path is expected.

    As a string it is a name made of the digest, so that equal images are loaded once per batch, as
    files with equal paths are.
    """

    data: bytes

    def __new__(cls, data: bytes) -> "EncodedImage":
        image = super().__new__(cls, f"sha256:{hashlib.sha256(data).hexdigest()[:16]}")
        image.data = data
        return image

    def __getnewargs__(self) -> tuple[bytes]:  # type: ignore[override]
        return (self.data,)


def read_bytes(path: ImagePath) -> bytes:
    """Return the content of an image file."""
    return path.data if isinstance(path, EncodedImage) else Path(path).read_bytes()


def open_image(path: ImagePath) -> Image.Image:
    """Decode the first frame of a file, upright and in RGB; transparency becomes white.

    16 bits per channel are scaled to 8. Raises DataError if the file cannot be read.
    """
    return to_rgb(decode_image(path))


def decode_image(path: ImagePath) -> Image.Image:
    """Decode a file as `open_image` does, except that 8-bit gray may stay in mode L."""
    with _open_image_file(path) as image:
        if image.format == "PNG" and not _png_has_orientation(path):
            return decode_png(image, path) or _load_rgb(image)
        decoded = decode_jpeg(image, path) or _load_rgb(image)
        transpose = _ORIENTATION_TRANSPOSES.get(_exif_orientation(image))
        return decoded if transpose is None else decoded.transpose(transpose)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB; an RGB image is returned without a copy."""
    return image if image.mode == "RGB" else image.convert("RGB")


def read_size(path: ImagePath) -> Size:
    """Return (width, height) in pixels of the upright image; see `read_header`."""
    return read_header(path).size


def read_header(path: ImagePath) -> Header:
    """Read size and orientation without decoding, and check that a JPEG or PNG is complete.

    Raises DataError if the file is missing, truncated or not an image.
    """
    if (size := _ordinary_jpeg_size(path)) is not None:
        return Header(size, transposed=False)
    with _open_image_file(path) as image:
        transposed = _header_orientation(image, path) in _TRANSPOSED_ORIENTATIONS
        return Header(image.size[::-1] if transposed else image.size, transposed)


def decode_jpeg(image: Image.Image, path: ImagePath) -> Image.Image | None:
    """Decode the opened JPEG at `path` without Pillow; None if it is not RGB or gray."""
    import simplejpeg

    if image.format not in ("JPEG", "MPO") or image.mode not in _CHANNELS:
        return None
    try:
        return zero_copy_image(simplejpeg.decode_jpeg(read_bytes(path), _CHANNELS[image.mode]))
    except ValueError:
        return None


def decode_png(image: Image.Image, path: ImagePath) -> Image.Image | None:
    """Decode the opened PNG at `path` without Pillow; None if not opaque 8-bit RGB or gray."""
    from kornia_rs.io import decode_image_png_u8

    animated = getattr(image, "is_animated", False)
    if image.mode not in _CHANNELS or image.has_transparency_data or animated:
        return None
    mode = "rgb" if image.mode == "RGB" else "mono"
    try:
        return zero_copy_image(decode_image_png_u8(read_bytes(path), image.size[::-1], mode))
    except Exception:  # the library raises no narrower class
        return None


def zero_copy_array(image: Image.Image) -> np.ndarray:
    """Return the pixels of an RGB image without a copy: (height, width, 4) uint8, read only.

    Pillow keeps a large image in several blocks; its pixels are copied to (height, width, 3).
    """
    try:
        flat: np.ndarray = pa.array(image).flatten().to_numpy(zero_copy_only=True)
    except ValueError:
        return np.array(image)
    return flat.reshape(image.height, image.width, 4)


def zero_copy_image(pixels: np.ndarray) -> Image.Image:
    """Return (height, width, channels) uint8 as an image: L for 1 channel, RGB for 3 or 4.

    One and four channels are not copied; three are, because Pillow uses four bytes per pixel.
    """
    height, width, channels = pixels.shape
    if channels == 3:
        return Image.fromarray(pixels)
    values = pa.Array.from_buffers(pa.uint8(), pixels.size, [None, pa.py_buffer(pixels)])
    if channels == 1:
        return Image.fromarrow(values, "L", (width, height))
    return Image.fromarrow(pa.FixedSizeListArray.from_arrays(values, 4), "RGB", (width, height))


def _open_binary(path: ImagePath) -> BinaryIO:
    if isinstance(path, EncodedImage):
        return io.BytesIO(path.data)
    # Opening a pipe waits for a writer, and a device such as /dev/zero has no end.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise DataError(f"image {path} cannot be read: it is a folder, a pipe or a device")
    return open(path, "rb")


def _ordinary_jpeg_size(path: ImagePath) -> Size | None:
    """Return the size of an ordinary JPEG; None for all other files, which Pillow describes."""
    try:
        with _open_binary(path) as file:
            size = ordinary_jpeg_size(file)
    except OSError:
        return None
    is_allowed = size is not None and size[0] * size[1] <= (Image.MAX_IMAGE_PIXELS or 0)
    return size if is_allowed else None


@contextmanager
def _open_image_file(path: ImagePath) -> Iterator[Image.Image]:
    """Open a file with Pillow, and raise a DataError for every error of Pillow."""
    try:
        with _open_binary(path) as file, Image.open(file) as image:
            if image.mode in ("I", "F"):
                raise DataError(
                    f"image {path} has 32 bits per pixel (mode {image.mode}) of unknown range; "
                    "save it with 8 or 16 bits"
                )
            yield image
    except FileNotFoundError:
        raise DataError(f"image {path} does not exist") from None
    except UnidentifiedImageError:
        raise DataError(
            f"image {path} is not in a format that can be read; save it as PNG or JPEG"
        ) from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise DataError(
            f"image {path} has more than {limit} million pixels; make it smaller"
        ) from None
    except DataError:
        raise
    except _PILLOW_ERRORS as error:
        raise DataError(f"image {path} cannot be read ({error}); save it again") from error


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
    """Return the EXIF orientation that Pillow has not applied; 1 without legible EXIF."""
    if image.format == "TIFF":  # Pillow's TIFF reader applies it
        return 1
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except (ValueError, TypeError, SyntaxError, struct.error):
        return 1


def _header_orientation(image: Image.Image, path: ImagePath) -> int:
    if image.format in ("JPEG", "MPO"):
        _check_jpeg_end(image, path)
    elif image.format == "PNG" and not _png_has_orientation(path):
        return 1  # otherwise Pillow would decode the whole image to search for it
    return _exif_orientation(image)


def _check_jpeg_end(image: Image.Image, path: ImagePath) -> None:
    """Decode a JPEG without an end marker near its end: truncated, or with a long trailer."""
    with _open_binary(path) as file:
        if not has_jpeg_end(file):
            image.load()


def _png_has_orientation(path: ImagePath) -> bool:
    """Return whether a PNG may have an EXIF orientation. Raises DataError if it is truncated."""
    with _open_binary(path) as file:
        return _scan_png(file, path)


def _scan_png(file: BinaryIO, path: ImagePath) -> bool:
    """Read the chunk headers of a PNG up to IEND; return whether one may hold an orientation."""
    file.seek(8)
    has_orientation = False
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return has_orientation
        start = file.read(min(length, 32)) if kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt") else b""
        has_orientation |= kind == b"eXIf" or start.startswith((b"XML:com.adobe", b"Raw profile"))
        file.seek(length - len(start) + 4, 1)
    raise DataError(f"image {path} is truncated; copy or save it again")
