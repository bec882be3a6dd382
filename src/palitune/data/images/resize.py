"""From an image to the square of 8-bit pixels that the model sees."""

from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from palitune.records import Size

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling


class ResizeBackend(Enum):
    """How an image is resized."""

    exact = "exact"
    """To the very pixels of the checkpoint's Hugging Face processor: by Pillow."""
    fast = "fast"
    """To within 2/255 of them, several times as fast: by torch."""


def resize_image(
    image: "Image", size: Size, resample: "Resampling", backend: ResizeBackend
) -> "Image":
    """Return the image, RGB or L, in (width, height) = `size`; L may stay what it is."""
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

    from palitune.data.images.fast_decoding import zero_copy_array, zero_copy_image

    resize = partial(F.interpolate, mode=mode, antialias=True)
    pixels = from_dlpack(zero_copy_array(image))[None].permute(0, 3, 1, 2)
    if _pillow_resizes_height_first(image.size, size):
        pixels = resize(pixels, size=(size[1], image.width))
    small = resize(pixels, size=size[::-1])[0].permute(1, 2, 0)
    return zero_copy_image(np.ascontiguousarray(small.numpy()))


def _pillow_resizes_height_first(old_size: Size, new_size: Size) -> bool:
    """Tell whether Pillow (13) resizes the height before the width; torch always does the width.

    It matters by some levels at sharp edges: pixels are cut to 0 and 255 in between.
    """
    narrower, lower = (old - new for old, new in zip(old_size, new_size, strict=True))
    return lower > 0 and lower > 2 * narrower
