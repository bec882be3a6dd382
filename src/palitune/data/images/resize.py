"""Resize an image to the model's input size in 8-bit pixels."""

from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from palitune.records import Size

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling


class ResizeBackend(Enum):
    """Library that resizes images."""

    exact = "exact"
    """Pillow: exactly the pixels of the checkpoint's Hugging Face processor."""
    fast = "fast"
    """torch: at most 2/255 different from `exact`, and several times as fast."""


def resize_image(
    image: "Image", size: Size, resample: "Resampling", backend: ResizeBackend
) -> "Image":
    """Resize an RGB or L image.

    Args:
        image: The image.
        size: (width, height) in pixels of the result.
        resample: Pillow's filter. torch has bicubic and bilinear; Pillow resizes with the others.
        backend: Library to resize with.

    Returns:
        An RGB image; L may stay L.
    """
    from PIL.Image import Resampling

    from palitune.data.images.io import to_rgb

    modes = {Resampling.BICUBIC: "bicubic", Resampling.BILINEAR: "bilinear"}
    if backend is ResizeBackend.fast and resample in modes:
        return _resize_torch(to_rgb(image), size, modes[resample])
    return image.resize(size, resample)


def _resize_torch(image: "Image", size: Size, mode: str) -> "Image":
    import numpy as np
    import torch.nn.functional as F
    from torch.utils.dlpack import from_dlpack

    from palitune.data.images.io import zero_copy_array, zero_copy_image

    resize = partial(F.interpolate, mode=mode, antialias=True)
    pixels = from_dlpack(zero_copy_array(image))[None].permute(0, 3, 1, 2)
    if _pillow_resizes_height_first(image.size, size):
        pixels = resize(pixels, size=(size[1], image.width))
    resized = resize(pixels, size=size[::-1])[0].permute(1, 2, 0)
    return zero_copy_image(np.ascontiguousarray(resized.numpy()))


def _pillow_resizes_height_first(old_size: Size, new_size: Size) -> bool:
    """Return whether Pillow (13) resizes the height before the width; torch never does.

    The order changes sharp edges by a few levels, because values are clipped to 0..255 in between.
    """
    width_change, height_change = (old - new for old, new in zip(old_size, new_size, strict=True))
    return height_change > 0 and height_change > 2 * width_change
