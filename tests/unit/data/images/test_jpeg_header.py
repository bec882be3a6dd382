"""The quick reader of JPEG headers agrees with Pillow, or leaves the file to it."""

import io
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from palitune.data.images.jpeg_header import has_jpeg_end, ordinary_jpeg_size

OPTIONS: list[dict[str, Any]] = [
    {},
    {"progressive": True},
    {"quality": 95, "subsampling": 0},
    {"optimize": True, "comment": b"a comment"},
    {"icc_profile": b"a profile"},
    {"restart_marker_blocks": 2},
]
SIZE = 50, 33


@cache
def encoded(number: int, mode: str) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 255, (*SIZE[::-1], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **OPTIONS[number])
    return file.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("number", range(len(OPTIONS)))
def test_ordinary_files_are_read(number: int, mode: str) -> None:
    assert ordinary_jpeg_size(io.BytesIO(encoded(number, mode))) == SIZE


@pytest.mark.parametrize("options", [{"exif": b"Exif\0\0x"}, {"xmp": b"<x/>"}], ids=["exif", "xmp"])
def test_files_that_may_have_an_orientation_are_left_to_pillow(options: dict[str, Any]) -> None:
    file = io.BytesIO()
    Image.new("RGB", SIZE).save(file, "JPEG", **options)
    assert ordinary_jpeg_size(io.BytesIO(file.getvalue())) is None


def test_cmyk_is_left_to_pillow() -> None:
    assert ordinary_jpeg_size(io.BytesIO(encoded(0, "CMYK"))) is None


@given(
    number=st.integers(0, len(OPTIONS) - 1),
    mode=st.sampled_from(["RGB", "L"]),
    changes=st.lists(st.tuples(st.integers(0, 699), st.integers(0, 255)), max_size=4),
    length=st.one_of(st.none(), st.integers(0, 3000)),
)
def test_a_damaged_header_has_the_size_that_pillow_reads_or_none(
    number: int, mode: str, changes: list[tuple[int, int]], length: int | None
) -> None:
    content = bytearray(encoded(number, mode)[:length])
    for position, value in changes:
        if position < len(content):
            content[position] = value
    file = io.BytesIO(content)
    if (size := ordinary_jpeg_size(file)) is not None:
        assert has_jpeg_end(file)
        with Image.open(file) as image:
            assert (image.size, image.mode) == (size, mode)
            assert image.getexif().get(0x0112, 1) == 1
