"""One look at an image: what part of it, mirrored or not, in what colours; and what is true of it.

Pillow is imported where pictures are made.
"""

from dataclasses import dataclass, replace
from math import cos, radians, sin
from typing import TYPE_CHECKING, NamedTuple

from palitune.data.images.resize import ResizeBackend, resize_image
from palitune.data.sources.masks.formats import mask_to_box
from palitune.records import Box, Instance, Mask, Row, Size

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling

CropBox = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the image; what lies outside the image is filled with grey."""

_GRAY = (127, 127, 127)


@dataclass(frozen=True)
class ColorJitter:
    """How the colours are changed, in this order; 1 (the hue: 0) leaves them as they are."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    """Share of the colour circle, in [-0.5, 0.5], by which hues are turned."""


@dataclass(frozen=True)
class Affine:
    """An affine map about the middle of the image; what was outside gets the mean colour."""

    degrees: float = 0.0
    """Turn, counter-clockwise."""
    shear: float = 0.0
    """How far the top moves to the right against the bottom, as a share of the height."""
    scale_x: float = 1.0
    """Factor by which things get wider."""
    scale_y: float = 1.0
    """Factor by which things get higher."""


@dataclass(frozen=True)
class ImageTransform:
    """A window onto the image, perhaps mirrored, warped, stretched to a square, recoloured."""

    crop_box: CropBox | None = None
    """None: the whole image."""
    hflip: bool = False
    color_jitter: ColorJitter = ColorJitter()
    affine: Affine = Affine()
    """Objects do not follow it: it is for examples that tell no place."""

    def transforms_boxes(self) -> bool:
        """Tell whether objects are elsewhere than in the image."""
        return self.hflip or self.crop_box is not None

    def apply(
        self,
        image: "Image",
        size: Size,
        resample: "Resampling",
        backend: ResizeBackend = ResizeBackend.exact,
    ) -> "Image":
        """Return what is seen of an image, RGB or L, in (width, height) = `size`; L may stay L."""
        from PIL.Image import Transpose

        if self.crop_box is not None:
            image = _crop_with_padding(image, self.crop_box)
        if self.hflip:
            image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
        warped = _apply_affine(image, self.affine)
        seen = resize_image(warped, size, resample, backend)
        return (
            _jitter_grayscale(seen, self.color_jitter)
            if seen.mode == "L"
            else _jitter_rgb(seen, self.color_jitter)
        )


IDENTITY_TRANSFORM = ImageTransform()
"""The image as it is."""


class TransformedRow(NamedTuple):
    """A row as it is true of a view."""

    row: Row
    num_dropped: int
    """Objects that are no longer in it."""


def transform_row(row: Row, transform: ImageTransform, min_visible: float) -> TransformedRow:
    """Move the objects of a row with the view; size and objects are then those of the window.

    An object of which less than `min_visible`, in (0, 1], of its mask (without one: of its box) is
    left is dropped; a crowd only where nothing is left.
    """
    if not transform.transforms_boxes():
        return TransformedRow(row, 0)
    window = transform.crop_box or (0, 0, *row.size)
    size = window[2] - window[0], window[3] - window[1]
    given = row.instances or ()
    moved = [_crop_instance(i, window, 0.0 if i.crowd else min_visible) for i in given]
    left = [instance for instance in moved if instance is not None]
    if transform.hflip:
        left = [_hflip_instance(instance, size[0]) for instance in left]
    instances = None if row.instances is None else tuple(left)
    return TransformedRow(replace(row, size=size, instances=instances), len(given) - len(left))


def _crop_instance(instance: Instance, crop_box: CropBox, min_visible: float) -> Instance | None:
    """Return an object in the coordinates of a window, cut to it; None where too little is left."""
    x0, y0, x1, y1 = instance.box
    left, top, right, bottom = crop_box
    inside = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
    if not _box_area(inside):
        return None
    box = inside[0] - left, inside[1] - top, inside[2] - left, inside[3] - top
    if instance.mask is None:
        share = _box_area(inside) / _box_area(instance.box)
        return replace(instance, box=box) if share >= min_visible else None
    mask = _crop_mask(instance.mask, crop_box)
    share = float(mask.sum()) / max(float(instance.mask.sum()), 1.0)
    if not share or share < min_visible:
        return None
    if share < 1:
        box = _refit_box(mask, box, _margins(instance.mask, instance.box))
    return replace(instance, box=box, mask=mask) if _box_area(box) > 0 else None


def _hflip_instance(instance: Instance, width: int) -> Instance:
    x0, y0, x1, y1 = instance.box
    mask = None if instance.mask is None else instance.mask[:, ::-1]
    return replace(instance, box=(width - x1, y0, width - x0, y1), mask=mask)


def _crop_mask(mask: Mask, crop_box: CropBox) -> Mask:
    """Cut a window out of a mask; outside the mask it is False."""
    import numpy as np

    left, top, right, bottom = crop_box
    cut = np.zeros((bottom - top, right - left), bool)
    y, x = max(top, 0), max(left, 0)
    inside = mask[y : max(bottom, 0), x : max(right, 0)]
    cut[y - top : y - top + inside.shape[0], x - left : x - left + inside.shape[1]] = inside
    return cut


def _margins(mask: Mask, box: Box) -> Box:
    """Return how far the sides of a box are from the mask in it; 0 where they cut it."""
    x0, y0, x1, y1 = mask_to_box(mask)
    left, top, right, bottom = x0 - box[0], y0 - box[1], box[2] - x1, box[3] - y1
    return max(left, 0.0), max(top, 0.0), max(right, 0.0), max(bottom, 0.0)


def _refit_box(mask: Mask, box: Box, margins: Box) -> Box:
    """Draw a box in to a mask that has been cut, as far from it as the whole one's was."""
    x0, y0, x1, y1 = mask_to_box(mask)
    left, top, right, bottom = margins
    drawn = max(x0 - left, box[0]), max(y0 - top, box[1])
    return *drawn, min(x1 + right, box[2]), min(y1 + bottom, box[3])


def _box_area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _crop_with_padding(image: "Image", crop_box: CropBox) -> "Image":
    from PIL import Image

    left, top, right, bottom = crop_box
    if left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return image.crop(crop_box)
    canvas = Image.new("RGB", (right - left, bottom - top), _GRAY)
    canvas.paste(image, (-left, -top))
    return canvas


def _apply_affine(image: "Image", affine: Affine) -> "Image":
    from PIL.Image import Resampling, Transform

    if affine == Affine():
        return image
    turn = radians(affine.degrees)
    cosine, sine = cos(turn), sin(turn)
    # What is seen at (x, y) from the middle, y downwards, was at (a x + b y, c x + d y):
    # turned back, then upright again, then as wide and high as it was.
    a = (cosine + affine.shear * sine) / affine.scale_x
    b = (affine.shear * cosine - sine) / affine.scale_x
    c, d = sine / affine.scale_y, cosine / affine.scale_y
    x, y = image.width / 2, image.height / 2
    mean = image.resize((1, 1), Resampling.BOX).getpixel((0, 0))
    back = (a, b, x - a * x - b * y, c, d, y - c * x - d * y)
    return image.transform(image.size, Transform.AFFINE, back, Resampling.BILINEAR, fillcolor=mean)


def _jitter_grayscale(image: "Image", jitter: ColorJitter) -> "Image":
    """As `_coloured`, of an image in mode L: each of its 256 levels is changed once."""
    from PIL import Image, ImageEnhance

    if jitter.brightness == jitter.contrast == 1:
        return image
    levels = Image.frombytes("L", (256, 1), bytes(range(256)))
    levels = ImageEnhance.Brightness(levels).enhance(jitter.brightness)
    counted = zip(image.histogram(), levels.tobytes(), strict=True)
    mean = int(sum(count * level for count, level in counted) / (image.width * image.height) + 0.5)
    levels = Image.blend(Image.new("L", levels.size, mean), levels, jitter.contrast)
    return image.point(list(levels.tobytes()))


def _jitter_rgb(image: "Image", jitter: ColorJitter) -> "Image":
    import numpy as np
    from PIL import Image, ImageEnhance

    for enhance, factor in (
        (ImageEnhance.Brightness, jitter.brightness),
        (ImageEnhance.Contrast, jitter.contrast),
        (ImageEnhance.Color, jitter.saturation),
    ):
        if factor != 1:
            image = enhance(image).enhance(factor)
    if jitter.hue:
        hue, saturation, value = image.convert("HSV").split()
        turned = (np.asarray(hue).astype(np.int16) + round(jitter.hue * 256)) % 256
        hue = Image.fromarray(turned.astype(np.uint8))
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    return image
