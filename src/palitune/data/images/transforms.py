"""Image transforms (crop, flip, color jitter, affine) and their effect on boxes and masks.

Pillow is imported when an image is transformed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import cos, radians, sin
from typing import TYPE_CHECKING, NamedTuple

from palitune.data.images.resize import ResizeBackend, resize_image
from palitune.data.sources.masks.formats import mask_to_box
from palitune.records import Box, Instance, Mask, Row, Size

if TYPE_CHECKING:
    from PIL.Image import Image, Resampling

CropBox = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels of the image; parts outside the image are filled with gray."""

_GRAY = (127, 127, 127)


@dataclass(frozen=True)
class ColorJitter:
    """Factors of a color change, applied in this order; 1 (for the hue 0) changes nothing."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    """Hue shift in [-0.5, 0.5], as a fraction of the color circle."""


@dataclass(frozen=True)
class Affine:
    """An affine map about the image center; areas from outside the image get the mean color."""

    degrees: float = 0.0
    """Counter-clockwise rotation."""
    shear: float = 0.0
    """Shift of the top to the right relative to the bottom, as a fraction of the height."""
    scale_x: float = 1.0
    scale_y: float = 1.0


@dataclass(frozen=True)
class ImageTransform:
    """Crop, horizontal flip, affine map, resize and color jitter, in this order."""

    crop_box: CropBox | None = None
    """None: the whole image."""
    hflip: bool = False
    color_jitter: ColorJitter = ColorJitter()
    affine: Affine = Affine()
    """Objects do not follow it, so it is only for examples without locations."""

    def transforms_boxes(self) -> bool:
        return self.hflip or self.crop_box is not None

    def apply(
        self,
        image: "Image",
        size: Size,
        resample: "Resampling",
        backend: ResizeBackend = ResizeBackend.exact,
    ) -> "Image":
        """Transform an image.

        Args:
            image: An RGB or L image.
            size: (width, height) of the result in pixels.
            resample: Pillow's filter.
            backend: Library that resizes.

        Returns:
            An RGB image; L may stay L.
        """
        from PIL.Image import Transpose

        if self.crop_box is not None:
            image = crop_with_padding(image, self.crop_box)
        if self.hflip:
            image = image.transpose(Transpose.FLIP_LEFT_RIGHT)
        resized = resize_image(_apply_affine(image, self.affine), size, resample, backend)
        jitter = _jitter_grayscale if resized.mode == "L" else _jitter_rgb
        return jitter(resized, self.color_jitter)


IDENTITY_TRANSFORM = ImageTransform()


class TransformedRow(NamedTuple):
    """A row with the objects of its transformed image."""

    row: Row
    num_dropped: int
    """Number of objects that were cropped away."""


def transform_row(row: Row, transform: ImageTransform, min_visible: float) -> TransformedRow:
    """Apply a transform to the size and the objects of a row.

    An object is dropped if the crop shows less than `min_visible`, in (0, 1], of its mask, or of
    its box if it has no mask; a crowd is dropped only if the crop shows nothing of it.
    """
    if not transform.transforms_boxes():
        return TransformedRow(row, 0)
    crop_box = transform.crop_box or (0, 0, *row.size)
    size = crop_box[2] - crop_box[0], crop_box[3] - crop_box[1]
    before = row.instances or ()
    cropped = crop_instances(before, crop_box, min_visible)
    visible = [instance for instance in cropped if instance is not None]
    if transform.hflip:
        visible = [_hflip_instance(instance, size[0]) for instance in visible]
    instances = None if row.instances is None else tuple(visible)
    return TransformedRow(replace(row, size=size, instances=instances), len(before) - len(visible))


def crop_instances(
    instances: Iterable[Instance], crop_box: CropBox, min_visible: float
) -> list[Instance | None]:
    """Return each object in the coordinates of a crop, None if `transform_row` drops it."""
    return [_crop_instance(i, crop_box, 0.0 if i.crowd else min_visible) for i in instances]


def _crop_instance(instance: Instance, crop_box: CropBox, min_visible: float) -> Instance | None:
    """Return an object in the coordinates of a crop; None if too little of it is visible."""
    x0, y0, x1, y1 = instance.box
    left, top, right, bottom = crop_box
    visible_box = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
    if not _box_area(visible_box):
        return None
    box = visible_box[0] - left, visible_box[1] - top, visible_box[2] - left, visible_box[3] - top
    if instance.mask is None:
        visible = _box_area(visible_box) / _box_area(instance.box)
        return replace(instance, box=box) if visible >= min_visible else None
    mask = _crop_mask(instance.mask, crop_box)
    visible = float(mask.sum()) / max(float(instance.mask.sum()), 1.0)
    if not visible or visible < min_visible:
        return None
    if visible < 1:
        box = _refit_box(mask, box, _margins(instance.mask, instance.box))
    return replace(instance, box=box, mask=mask) if _box_area(box) > 0 else None


def _hflip_instance(instance: Instance, width: int) -> Instance:
    x0, y0, x1, y1 = instance.box
    mask = None if instance.mask is None else instance.mask[:, ::-1]
    return replace(instance, box=(width - x1, y0, width - x0, y1), mask=mask)


def _crop_mask(mask: Mask, crop_box: CropBox) -> Mask:
    """Crop a mask; outside of the image it is False."""
    import numpy as np

    left, top, right, bottom = crop_box
    cropped = np.zeros((bottom - top, right - left), bool)
    y, x = max(top, 0), max(left, 0)
    inside = mask[y : max(bottom, 0), x : max(right, 0)]
    cropped[y - top : y - top + inside.shape[0], x - left : x - left + inside.shape[1]] = inside
    return cropped


def _margins(mask: Mask, box: Box) -> Box:
    """Return the distances from the sides of a box to the mask in it, at least 0."""
    x0, y0, x1, y1 = mask_to_box(mask)
    left, top, right, bottom = x0 - box[0], y0 - box[1], box[2] - x1, box[3] - y1
    return max(left, 0.0), max(top, 0.0), max(right, 0.0), max(bottom, 0.0)


def _refit_box(mask: Mask, box: Box, margins: Box) -> Box:
    """Shrink a box around a cropped mask, with the margins that the whole mask had."""
    x0, y0, x1, y1 = mask_to_box(mask)
    left, top, right, bottom = margins
    corner = max(x0 - left, box[0]), max(y0 - top, box[1])
    return *corner, min(x1 + right, box[2]), min(y1 + bottom, box[3])


def _box_area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def crop_with_padding(image: "Image", crop_box: CropBox) -> "Image":
    """Return a part of an image; what lies outside of the image is gray."""
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
    angle = radians(affine.degrees)
    cosine, sine = cos(angle), sin(angle)
    # The result at (x, y) from the center, y downward, is the image at (a x + b y, c x + d y): the
    # inverse of the rotation, then of the shear, then of the scaling.
    a = (cosine + affine.shear * sine) / affine.scale_x
    b = (affine.shear * cosine - sine) / affine.scale_x
    c, d = sine / affine.scale_y, cosine / affine.scale_y
    x, y = image.width / 2, image.height / 2
    mean = image.resize((1, 1), Resampling.BOX).getpixel((0, 0))
    inverse = (a, b, x - a * x - b * y, c, d, y - c * x - d * y)
    return image.transform(
        image.size, Transform.AFFINE, inverse, Resampling.BILINEAR, fillcolor=mean
    )


def _jitter_grayscale(image: "Image", jitter: ColorJitter) -> "Image":
    """Apply brightness and contrast to an image in mode L through a table of its 256 levels."""
    from PIL import Image, ImageEnhance

    if jitter.brightness == jitter.contrast == 1:
        return image
    levels = Image.frombytes("L", (256, 1), bytes(range(256)))
    levels = ImageEnhance.Brightness(levels).enhance(jitter.brightness)
    counts = zip(image.histogram(), levels.tobytes(), strict=True)
    mean = int(sum(count * level for count, level in counts) / (image.width * image.height) + 0.5)
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
        shifted = (np.asarray(hue).astype(np.int16) + round(jitter.hue * 256)) % 256
        hue = Image.fromarray(shifted.astype(np.uint8))
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    return image
