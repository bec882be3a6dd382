"""Boxes: every format gives the same pixels; an error names the format that fits."""

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.data.sources.box_formats import (
    BoxFormat,
    BoxReader,
    parse_four_numbers,
    validate_box,
)
from palitune.errors import DataError
from palitune.records import Box

SIZE = (640, 480)
boxes = st.tuples(
    st.integers(0, 600), st.integers(0, 440), st.integers(2, 40), st.integers(2, 40)
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def written(box: Box, box_format: BoxFormat, normalized: bool) -> list[float]:
    x0, y0, x1, y1 = box
    numbers = {
        BoxFormat.xyxy: [x0, y0, x1, y1],
        BoxFormat.xywh: [x0, y0, x1 - x0, y1 - y0],
        BoxFormat.cxcywh: [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0],
    }[box_format]
    return [round(n / SIZE[i % 2], 6) for i, n in enumerate(numbers)] if normalized else numbers


@given(box=boxes)
def test_a_box_in_any_formatat_is_read_in_whole_pixels(box: Box) -> None:
    for box_format, normalized in itertools.product(BoxFormat, (False, True)):
        reader = BoxReader(box_format, normalized)
        assert reader.read(written(box, box_format, normalized), SIZE, "here") == box


@pytest.mark.parametrize(
    ("reader", "numbers", "why"),
    [
        (
            BoxReader(BoxFormat.xyxy, is_user_setting=True),
            [500, 300, 100, 100],
            "box must have an area, got [500.0, 300.0, 100.0, 100.0]. Boxes are [x0, y0, x1, y1] "
            "in "
            "pixels. Set data.box_format=xywh, with which it lies inside.",
        ),
        (
            BoxReader(BoxFormat.xywh, is_user_setting=True),
            [500, 300, 600, 400],
            "box must lie inside the image (640x480 px), got x1=1100. Boxes are [x, y, width, "
            "height] in pixels. Set data.box_format=xyxy, with which it lies inside.",
        ),
        (
            BoxReader(BoxFormat.xyxy, is_user_setting=True),
            [0.1, 0.2, 0.5, 0.9],
            "box must be in pixels, got fractions [0.1, 0.2, 0.5, 0.9]. Boxes are [x0, y0, x1, y1] "
            "in "
            "pixels. Set data.normalized=true.",
        ),
        (
            BoxReader(BoxFormat.xyxy, normalized=True, is_user_setting=True),
            [10, 20, 50, 90],
            "box must be in fractions, got [10.0, 20.0, 50.0, 90.0]. Boxes are [x0, y0, x1, y1] in "
            "fractions of the image. Set data.normalized=false.",
        ),
        (
            BoxReader(BoxFormat.xyxy, is_user_setting=True),
            [100, 500, 200, 600],
            "box must lie inside the image (640x480 px), got y0=500. Boxes are [x0, y0, x1, y1] in "
            "pixels. With x and y swapped it lies inside; check whether y is written first.",
        ),
        (
            BoxReader(BoxFormat.xywh),
            [500, 300, 600, 400],
            "box must lie inside the image (640x480 px), got x1=1100. Boxes are [x, y, width, "
            "height] in pixels. As corners x0, y0, x1, y1 the numbers lie inside; write the width "
            "and the height instead.",
        ),
    ],
)
def test_the_error_of_a_box_names_the_setting_that_fits(
    reader: BoxReader, numbers: list[float], why: str
) -> None:
    with pytest.raises(DataError) as caught:
        reader.read(numbers, SIZE, "boats.jsonl:17")
    assert str(caught.value) == f"boats.jsonl:17: {why}"


SMALL = (100, 60)
side = st.floats(-3, 120, allow_nan=False)


@given(x0=side, y0=side, x1=side, y1=side)
def test_a_box_comes_out_inside_the_image_and_moved_by_at_most_two_pixels(
    x0: float, y0: float, x1: float, y1: float
) -> None:
    try:
        left, top, right, bottom = validate_box((x0, y0, x1, y1), SMALL, "here", "FORM")
    except DataError:
        return
    assert 0 <= left < right <= 100
    assert 0 <= top < bottom <= 60
    moved = zip((left, top, right, bottom), (x0, y0, x1, y1), strict=True)
    assert all(abs(now - before) <= 2 for now, before in moved)


@given(
    xs=st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True),
    ys=st.lists(st.integers(0, 60), min_size=2, max_size=2, unique=True),
)
def test_a_box_of_whole_pixels_inside_the_image_is_kept(xs: list[int], ys: list[int]) -> None:
    box = (min(xs), min(ys), max(xs), max(ys))
    assert validate_box(box, SMALL, "here", "FORM") == box


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((0, 0, 100, 60), (0, 0, 100, 60)),
        ((0.25, 3, 50.5, 60), (0.25, 3, 50.5, 60)),
        ((-0.5, -1, 100.5, 61), (0, 0, 100, 60)),
        ((0, 0, 1, 1), (0, 0, 1, 1)),
    ],
)
def test_an_overshoot_of_up_to_a_pixel_is_cut(box: Any, cut: Any) -> None:
    assert validate_box(box, SMALL, "here", "FORM") == cut


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((0, 0, 102.5, 60), "lie inside the image (100x60 px), got x1=102.5"),
        ((-2.1, 0, 50, 60), "lie inside the image (100x60 px), got x0=-2.1"),
        ((0, -3, 50, 60), "lie inside the image (100x60 px), got y0=-3"),
        ((5, 5, 5, 9), "have an area, got [5, 5, 5, 9]"),
        ((9, 5, 5, 9), "have an area, got [9, 5, 5, 9]"),
        ((-1, 5, 0, 9), "have an area, got [-1, 5, 0, 9]"),
        ((0.1, 0.2, 0.5, 1.0), "be in pixels, got fractions [0.1, 0.2, 0.5, 1.0]"),
    ],
)
def test_an_invalid_box_is_an_error_with_its_reason(box: Any, why: str) -> None:
    with pytest.raises(DataError) as caught:
        validate_box(box, SMALL, "boats.jsonl:17", "FORM")
    assert str(caught.value) == f"boats.jsonl:17: box must {why}. Boxes are FORM."


def test_the_error_suggests_swapped_sides_if_they_fit() -> None:
    with pytest.raises(DataError) as caught:
        validate_box((0, 0, 60, 100), SMALL, "boats.jsonl:17", "FORM")
    assert str(caught.value) == (
        "boats.jsonl:17: box must lie inside the image (100x60 px), got y1=100. Boxes are FORM. "
        "With x and y swapped it lies inside; check whether y is written first."
    )


@pytest.mark.parametrize(
    "value",
    [None, 3, "1,2,3,4", [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, "4"], [1, 2, 3, True], {"x": 1},
     [math.nan, 1, 2, 3], [1, 2, 3, math.inf], [1, 2, 3, 10**400], [[1, 2, 3, 4]]],
)  # fmt: skip
def test_a_value_other_than_four_finite_numbers_is_an_error(value: Any) -> None:
    with pytest.raises(
        DataError, match=r"^here: box must be four numbers, got .*\. Boxes are FORM\.$"
    ):
        parse_four_numbers(value, "here", "FORM")


def test_a_box_with_nan_is_outside_the_image() -> None:
    with pytest.raises(DataError, match=r"must lie inside the image .*, got x1=nan"):
        validate_box((1, 2, math.nan, 4), SMALL, "here", "FORM")
