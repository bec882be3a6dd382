"""Pixels, masks and boxes of an image are transformed together."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from PIL.Image import Resampling

from palitune.data.images.transforms import (
    IDENTITY_TRANSFORM,
    Affine,
    ColorJitter,
    CropBox,
    ImageTransform,
    transform_row,
)
from palitune.records import Box, Instance, Mask, Row, Size

from support.toy_data import toy_mask

ALL = 1e-6
"""A fraction of an object that is always visible."""


def row_of(size: Size, *instances: Instance) -> Row:
    return Row(id="1", images=("a.png",), size=size, location="drawn", instances=instances)


def objects(row: Row) -> tuple[Instance, ...]:
    assert row.instances is not None
    return row.instances


def tight(mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def filled(size: Size, box: Box) -> Mask:
    mask = np.zeros((size[1], size[0]), bool)
    mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = True
    return mask


def shown(view: ImageTransform, mask: Mask) -> Mask:
    """Look at a mask as at an image of its own, in its own pixels."""
    height, width = mask.shape
    window = view.crop_box or (0, 0, width, height)
    image = Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB")
    size = window[2] - window[0], window[3] - window[1]
    return np.asarray(view.apply(image, size, Resampling.NEAREST))[..., 0] > 127


@st.composite
def boxes(draw: st.DrawFn, size: Size) -> Box:
    x0, y0 = (draw(st.integers(0, side - 1)) for side in size)
    x1, y1 = (draw(st.integers(low + 1, side)) for low, side in zip((x0, y0), size, strict=True))
    return x0, y0, x1, y1


@st.composite
def windows(draw: st.DrawFn, size: Size) -> CropBox:
    """Parts of the image, and squares around it."""
    if draw(st.booleans()):
        x0, y0, x1, y1 = draw(boxes(size))
        return int(x0), int(y0), int(x1), int(y1)
    side = max(size)
    x0, y0 = (draw(st.integers(s - side, 0)) for s in size)
    return x0, y0, x0 + side, y0 + side


sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))


@given(st.data(), sizes, st.booleans(), st.integers(0, 3))
def test_a_mask_moves_with_its_pixels_and_its_box_with_the_mask(
    data: st.DataObject, size: Size, flipped: bool, margin: int
) -> None:
    view = ImageTransform(data.draw(windows(size)), flipped)
    ellipse = toy_mask(size, data.draw(boxes(size)))
    assume(ellipse.any())
    x0, y0, x1, y1 = tight(ellipse)
    width, height = size
    box = (
        max(x0 - margin, 0), max(y0 - margin, 0), min(x1 + margin, width), min(y1 + margin, height)
    )  # fmt: skip
    transformed, num_dropped = transform_row(
        row_of(size, Instance("boat", box, ellipse)), view, ALL
    )
    by_pixels = shown(view, ellipse)
    assert num_dropped == (not by_pixels.any())
    for instance in objects(transformed):
        assert instance.mask is not None
        assert np.array_equal(instance.mask, by_pixels)
        assert instance.mask.shape == (transformed.size[1], transformed.size[0])
        inner = tight(by_pixels)
        outer = (
            max(inner[0] - margin, 0), max(inner[1] - margin, 0),
            min(inner[2] + margin, transformed.size[0]),
            min(inner[3] + margin, transformed.size[1]),
        )  # fmt: skip
        assert all(a <= b for a, b in zip(outer[:2], instance.box[:2], strict=True))
        assert all(a >= b for a, b in zip(outer[2:], instance.box[2:], strict=True))
        assert all(a >= b for a, b in zip(inner[:2], instance.box[:2], strict=True))
        assert all(a <= b for a, b in zip(inner[2:], instance.box[2:], strict=True))


@given(st.data(), sizes, st.booleans())
def test_a_box_alone_moves_as_the_mask_that_fills_it(
    data: st.DataObject, size: Size, flipped: bool
) -> None:
    view = ImageTransform(data.draw(windows(size)), flipped)
    box = data.draw(boxes(size))
    bare, masked = (
        objects(transform_row(row_of(size, Instance("boat", box, mask)), view, ALL).row)
        for mask in (None, filled(size, box))
    )
    assert [i.box for i in bare] == [i.box for i in masked]
    assert all(i.mask is not None and tight(i.mask) == i.box for i in masked)


@given(st.data(), sizes)
def test_flipped_twice_is_as_it_was(data: st.DataObject, size: Size) -> None:
    box = data.draw(boxes(size))
    row = row_of(size, Instance("boat", box), Instance("buoy", box, filled(size, box)))
    mirror = ImageTransform(hflip=True)
    assert transform_row(transform_row(row, mirror, ALL).row, mirror, ALL).row == row
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    twice = mirror.apply(mirror.apply(image, size, Resampling.BICUBIC), size, Resampling.BICUBIC)
    assert np.array_equal(np.asarray(twice), pixels)


@given(
    sizes,
    st.sampled_from([IDENTITY_TRANSFORM, ImageTransform(color_jitter=ColorJitter(1, 1, 1, 0))]),
)
def test_the_identity_transform_is_the_resized_image(size: Size, view: ImageTransform) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    resized = image.resize((24, 24), Resampling.BICUBIC)
    assert np.array_equal(
        np.asarray(view.apply(image, (24, 24), Resampling.BICUBIC)), np.asarray(resized)
    )
    row = row_of(size, Instance("boat", (0, 0, 1, 1)))
    assert transform_row(row, view, ALL) == (row, 0)


def test_a_crop_of_the_whole_image_changes_nothing() -> None:
    box = (3.25, 4.0, 20.5, 30.125)
    row = row_of((40, 50), Instance("boat", box, toy_mask((40, 50), box)))
    assert transform_row(row, ImageTransform((0, 0, 40, 50)), ALL) == (row, 0)


def test_objects_that_are_hardly_visible_are_dropped_and_counted() -> None:
    mask = np.zeros((10, 100), bool)
    mask[:, :20] = True  # of the mask more than half is left, of the box much less
    row = row_of(
        (100, 10),
        Instance("half", (40, 0, 60, 10)),
        Instance("less", (41, 0, 61, 10)),
        Instance("gone", (60, 0, 70, 10)),
        Instance("by mask", (0, 0, 100, 10), mask),
        Instance("crowd", (49, 0, 99, 10), crowd=True),
    )
    transformed, num_dropped = transform_row(row, ImageTransform((0, 0, 50, 10)), 0.5)
    assert [i.label for i in objects(transformed)] == ["half", "by mask", "crowd"]
    assert num_dropped == 2
    assert objects(transformed)[0].box == (40, 0, 50, 10)


def test_a_cut_object_keeps_the_margin_between_its_mask_and_its_box() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 10:50] = True
    mask[20:30, 10:20] = True  # an L, lying: its foot is cut away with the left half
    row = row_of((60, 40), Instance("L", (8, 8, 52, 32), mask))
    [instance] = objects(transform_row(row, ImageTransform((30, 0, 60, 40)), ALL).row)
    assert instance.box == (0, 8, 22, 22)


def test_a_mask_outside_its_box_never_inverts_the_box() -> None:
    mask = np.zeros((10, 40), bool)
    mask[:, 5:40] = True
    row = row_of((40, 10), Instance("boat", (0, 0, 30, 10), mask))
    [instance] = objects(transform_row(row, ImageTransform((29, 0, 40, 10)), ALL).row)
    assert instance.box == (0, 0, 1, 10)
    mask[:, :35] = False  # what is left of the mask lies beside what is left of the box
    mask[:, 0] = True
    row = row_of((40, 10), Instance("boat", (0, 0, 30, 10), mask))
    assert transform_row(row, ImageTransform((29, 0, 40, 10)), ALL).num_dropped == 1


def test_padding_is_gray_and_has_no_objects() -> None:
    image = Image.new("RGB", (20, 10), "white")
    view = ImageTransform((0, -4, 20, 16))
    pixels = np.asarray(view.apply(image, (20, 20), Resampling.NEAREST))
    assert (pixels[:4] == 127).all()
    assert (pixels[4:14] == 255).all()
    assert (pixels[14:] == 127).all()


@pytest.mark.parametrize(
    ("colours", "channels"),
    [
        (ColorJitter(brightness=0.5), (100, 25, 0)),
        (ColorJitter(saturation=0.0), (89, 89, 89)),
        (ColorJitter(hue=0.5), (0, 150, 200)),
    ],
)
def test_color_jitter_changes_the_colors(
    colours: ColorJitter, channels: tuple[int, int, int]
) -> None:
    image = Image.new("RGB", (4, 4), (200, 50, 0))
    picture = ImageTransform(color_jitter=colours).apply(image, (4, 4), Resampling.BICUBIC)
    assert np.abs(np.asarray(picture, int) - channels).max() <= 3


@given(st.data(), st.floats(0, 2), st.floats(0, 2))
def test_gray_images_are_jittered_like_pillow(
    data: st.DataObject, brightness: float, contrast: float
) -> None:
    levels = data.draw(st.lists(st.integers(0, 255), min_size=6, max_size=6))
    image = Image.frombytes("L", (3, 2), bytes(levels))
    seen = ImageTransform(color_jitter=ColorJitter(brightness, contrast)).apply(
        image, (3, 2), Resampling.NEAREST
    )
    bright = ImageEnhance.Brightness(image).enhance(brightness)
    assert seen.tobytes() == ImageEnhance.Contrast(bright).enhance(contrast).tobytes()


def test_contrast_zero_is_the_mean_gray() -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0] = 200
    picture = ImageTransform(color_jitter=ColorJitter(contrast=0.0)).apply(
        Image.fromarray(pixels), (2, 2), Resampling.NEAREST
    )
    assert (np.asarray(picture) == 100).all()


@pytest.mark.parametrize(
    ("warp", "place"),
    [
        (Affine(), (30, -10)),
        (Affine(degrees=90), (-10, -30)),
        (Affine(scale_x=0.5), (15, -10)),
        (Affine(scale_y=0.5), (30, -5)),
        (Affine(shear=0.5), (35, -10)),
        (Affine(degrees=90, scale_x=0.5), (-10, -15)),  # stretched, then turned
        (Affine(degrees=90, shear=0.5), (-10, -35)),  # slanted, then turned
    ],
)
def test_an_affine_map_moves_a_dot(warp: Affine, place: tuple[int, int]) -> None:
    """The dot starts 30 px to the right of the middle and 10 px above it."""
    image = Image.new("RGB", (100, 80), (40, 40, 40))
    image.paste((255, 255, 255), (78, 28, 83, 33))
    seen = np.asarray(ImageTransform(affine=warp).apply(image, image.size, Resampling.BICUBIC))
    rows, columns = np.nonzero(seen[..., 0] > 150)
    middle = columns.mean() + 0.5 - 50, rows.mean() + 0.5 - 40
    assert middle == pytest.approx((place[0] + 0.5, place[1] + 0.5), abs=1)


def test_areas_from_outside_the_image_have_the_mean_color() -> None:
    image = Image.new("RGB", (40, 40), (200, 100, 50))
    seen = np.asarray(
        ImageTransform(affine=Affine(degrees=30)).apply(image, (40, 40), Resampling.BICUBIC)
    )
    assert (seen == (200, 100, 50)).all()
