"""Boxes: kept where they are right, cut by at most a pixel, refused with the reason otherwise."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.data.sources.validation import parse_four_numbers, short_repr, validate_box
from palitune.errors import DataError

SIZE = (100, 60)
side = st.floats(-3, 120, allow_nan=False)


@given(x0=side, y0=side, x1=side, y1=side)
def test_a_box_comes_out_inside_the_image_and_moved_by_at_most_a_pixel(
    x0: float, y0: float, x1: float, y1: float
) -> None:
    try:
        left, top, right, bottom = validate_box((x0, y0, x1, y1), SIZE, "here", "FORM")
    except DataError:
        return
    assert 0 <= left < right <= 100
    assert 0 <= top < bottom <= 60
    moved = zip((left, top, right, bottom), (x0, y0, x1, y1), strict=True)
    assert all(abs(now - before) <= 1 for now, before in moved)


@given(
    xs=st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True),
    ys=st.lists(st.integers(0, 60), min_size=2, max_size=2, unique=True),
)
def test_a_box_of_whole_pixels_inside_the_image_is_kept(xs: list[int], ys: list[int]) -> None:
    box = (min(xs), min(ys), max(xs), max(ys))
    assert validate_box(box, SIZE, "here", "FORM") == box


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
    assert validate_box(box, SIZE, "here", "FORM") == cut


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ((0, 0, 101.5, 60), "x1=101.5 lies outside the image (100 px)"),
        ((-2, 0, 50, 60), "x0=-2 lies outside the image (100 px)"),
        ((0, -2, 50, 60), "y0=-2 lies outside the image (60 px)"),
        ((5, 5, 5, 9), "[5, 5, 5, 9] has no area"),
        ((9, 5, 5, 9), "[9, 5, 5, 9] has no area"),
        ((-1, 5, 0, 9), "[-1, 5, 0, 9] has no area"),
        ((0.1, 0.2, 0.5, 1.0), "[0.1, 0.2, 0.5, 1.0] is in fractions"),
    ],
)
def test_a_wrong_box_says_what_and_how(box: Any, why: str) -> None:
    with pytest.raises(DataError) as caught:
        validate_box(box, SIZE, "boats.jsonl:17", "FORM")
    assert str(caught.value) == f"boats.jsonl:17: box {why}; boxes are FORM"


def test_swapped_sides_are_suggested_where_they_explain_a_box() -> None:
    with pytest.raises(DataError) as caught:
        validate_box((0, 0, 60, 100), SIZE, "boats.jsonl:17", "FORM")
    assert str(caught.value) == (
        "boats.jsonl:17: box y1=100 lies outside the image (60 px); boxes are FORM; "
        "with x and y swapped it lies inside: is y written first?"
    )


@pytest.mark.parametrize(
    "value",
    [None, 3, "1,2,3,4", [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, "4"], [1, 2, 3, True], {"x": 1},
     [math.nan, 1, 2, 3], [1, 2, 3, math.inf], [1, 2, 3, 10**400], [[1, 2, 3, 4]]],
)  # fmt: skip
def test_what_is_not_four_finite_numbers_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"^here: box .* is not four numbers; boxes are FORM$"):
        parse_four_numbers(value, "here", "FORM")


def test_no_number_at_all_is_outside_the_image() -> None:
    with pytest.raises(DataError, match="x1=nan lies outside"):
        validate_box((1, 2, math.nan, 4), SIZE, "here", "FORM")


def test_a_long_value_is_cut_in_a_message() -> None:
    assert short_repr("x" * 100) == "'" + "x" * 56 + "..."
    assert short_repr([1]) == "[1]"
