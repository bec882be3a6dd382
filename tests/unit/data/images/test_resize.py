"""`exact` equals the stock processor bit by bit, and `fast` is close to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from palitune.data.collator import Collator
from palitune.data.images.resize import ResizeBackend, resize_image
from palitune.data.images.transforms import IDENTITY_TRANSFORM, ColorJitter, ImageTransform
from palitune.models.paligemma import normalize_pixels

from support.test_images import checkerboard, gradient, noise, photo, save_all_formats, text_page
from support.tiny_models import build_processor

BOUND = 2
"""Largest difference between `fast` and `exact` in a pixel, in 1/255."""
BICUBIC, BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_all_formats(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def processor() -> Any:
    return build_processor()


@pytest.mark.parametrize("side", [224, 448, 896])
def test_exact_equals_the_stock_processor_and_fast_is_close(
    files: dict[str, Path], processor: Any, side: int
) -> None:
    processor.image_processor.size = {"height": side, "width": side}
    exact = Collator(processor)
    fast = Collator(processor, resize_backend=ResizeBackend.fast)
    unequal, distant = {}, {}
    for kind, path in files.items():
        stock = processor.image_processor
        expected = stock(ImageOps.exif_transpose(Image.open(path)), return_tensors="pt")
        pixels = exact.load_pixels(str(path), IDENTITY_TRANSFORM)
        if not torch.equal(normalize_pixels(pixels[None]), expected["pixel_values"]):
            unequal[kind] = difference(normalize_pixels(pixels[None]), expected["pixel_values"])
        if (
            distance := difference(fast.load_pixels(str(path), IDENTITY_TRANSFORM), pixels)
        ) > BOUND:
            distant[kind] = distance
    assert (unequal, distant) == ({}, {})


def difference(one: torch.Tensor, two: torch.Tensor) -> float:
    return float((one.float() - two.float()).abs().max())


@given(
    size=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    side=st.integers(1, 160),
    draw=st.sampled_from([checkerboard, gradient, noise, text_page, photo]),
    resample=st.sampled_from([BICUBIC, BILINEAR]),
)
@settings(max_examples=50)
def test_fast_is_within_two_levels_of_exact_for_any_size(
    size: tuple[int, int],
    side: int,
    draw: Callable[[int, int], Image.Image],
    resample: Image.Resampling,
) -> None:
    exact, fast = (
        np.asarray(resize_image(draw(*size), (side, side + 5), resample, images), np.int16)
        for images in (ResizeBackend.exact, ResizeBackend.fast)
    )
    assert exact.shape == fast.shape == (side + 5, side, 3)
    assert np.abs(exact - fast).max() <= BOUND


def test_an_image_that_pillow_keeps_in_several_blocks_is_resized_too() -> None:
    large = Image.new("RGB", (2600, 2600), "white")
    large.paste(photo(1000, 800), (900, 1700))
    exact, fast = (
        np.asarray(resize_image(large, (64, 64), BICUBIC, images), np.int16)
        for images in (ResizeBackend.exact, ResizeBackend.fast)
    )
    assert np.abs(exact - fast).max() <= BOUND


def test_pillow_resizes_with_other_filters() -> None:
    image = photo(90, 70)
    lanczos = resize_image(image, (30, 30), Image.Resampling.LANCZOS, ResizeBackend.fast)
    assert lanczos.tobytes() == image.resize((30, 30), Image.Resampling.LANCZOS).tobytes()


def test_a_gray_image_is_transformed_like_its_rgb_version(files: dict[str, Path]) -> None:
    transform = ImageTransform(
        crop_box=(-20, 10, 200, 250), hflip=True, color_jitter=ColorJitter(1.2, 0.9, 1.1, 0.1)
    )
    gray = Image.open(files["grey png"])
    pixels = [transform.apply(image, (64, 64), BICUBIC) for image in (gray, gray.convert("RGB"))]
    assert pixels[0].tobytes() == pixels[1].tobytes()
