"""JPEG and PNG decoded without Pillow, to the same pixels, in about half of its time.

simplejpeg is libjpeg-turbo, as Pillow's own decoder is; its rows become a Pillow image without a
copy. kornia-rs inflates and unfilters a PNG three times as fast as libpng. What either does not
take (CMYK, palettes, transparency, 16 bits, damage) is left to Pillow, and so is what to say of it.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

_CHANNELS = {"RGB": "RGBX", "L": "GRAY"}
"""What libjpeg-turbo calls the memory layout of a Pillow mode."""


def decode_jpeg(image: Image.Image, path: Path) -> Image.Image | None:
    """Decode the opened JPEG in `path`, RGB or L; None for all else."""
    import simplejpeg

    if image.format not in ("JPEG", "MPO") or image.mode not in _CHANNELS:
        return None
    try:
        return zero_copy_image(simplejpeg.decode_jpeg(path.read_bytes(), _CHANNELS[image.mode]))
    except ValueError:
        return None


def decode_png(image: Image.Image, path: Path) -> Image.Image | None:
    """Decode the opened PNG in `path`, opaque RGB or L of 8 bits; None for all else."""
    from kornia_rs.io import decode_image_png_u8

    animated = getattr(image, "is_animated", False)
    if image.mode not in _CHANNELS or image.has_transparency_data or animated:
        return None
    kind = "rgb" if image.mode == "RGB" else "mono"
    try:
        pixels = decode_image_png_u8(path.read_bytes(), image.size[::-1], kind)
    except Exception:  # the library has no narrower one
        return None
    return zero_copy_image(pixels)


def zero_copy_array(image: Image.Image) -> np.ndarray:
    """Give the pixels of an RGB image in its memory: (height, width, 4) uint8, read only.

    Of a large one, which Pillow keeps in pieces, give a copy, (height, width, 3).
    """
    try:
        flat: np.ndarray = pa.array(image).flatten().to_numpy(zero_copy_only=True)
    except ValueError:
        return np.array(image)
    return flat.reshape(image.height, image.width, 4)


def zero_copy_image(pixels: np.ndarray) -> Image.Image:
    """Make an image of (height, width, channels) uint8 in their memory: 1 is L, 3 or 4 are RGB."""
    height, width, channels = pixels.shape
    if channels == 3:  # Pillow's own pixels have four bytes
        return Image.fromarray(pixels)
    values = pa.Array.from_buffers(pa.uint8(), pixels.size, [None, pa.py_buffer(pixels)])
    if channels == 1:
        return Image.fromarrow(values, "L", (width, height))
    return Image.fromarrow(pa.FixedSizeListArray.from_arrays(values, 4), "RGB", (width, height))
