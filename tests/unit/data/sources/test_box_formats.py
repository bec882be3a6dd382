"""Boxes in every form come out the same; a box that fits another form says so."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palitune.data.sources.box_formats import BoxFormat, BoxReader
from palitune.errors import DataError
from palitune.records import Box

SIZE = (640, 480)
boxes = st.tuples(
    st.integers(0, 600), st.integers(0, 440), st.integers(2, 40), st.integers(2, 40)
).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def written(box: Box, form: BoxFormat, normalized: bool) -> list[float]:
    x0, y0, x1, y1 = box
    numbers = {
        BoxFormat.xyxy: [x0, y0, x1, y1],
        BoxFormat.xywh: [x0, y0, x1 - x0, y1 - y0],
        BoxFormat.cxcywh: [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0],
    }[form]
    return [round(n / SIZE[i % 2], 6) for i, n in enumerate(numbers)] if normalized else numbers


@given(box=boxes)
def test_a_box_in_any_form_comes_back_in_whole_pixels(box: Box) -> None:
    for form, normalized in itertools.product(BoxFormat, (False, True)):
        reader = BoxReader(form, normalized)
        assert reader.read(written(box, form, normalized), SIZE, "here") == box


@pytest.mark.parametrize(
    ("reader", "numbers", "why"),
    [
        (
            BoxReader(BoxFormat.xyxy, is_user_setting=True),
            [500, 300, 100, 100],
            "box [500.0, 300.0, 100.0, 100.0] has no area; boxes are [x0, y0, x1, y1] in pixels; "
            "with data.box_format=xywh it lies inside",
        ),
        (
            BoxReader(BoxFormat.xywh, is_user_setting=True),
            [500, 300, 600, 400],
            "box x1=1100 lies outside the image (640 px); boxes are [x, y, width, height] in "
            "pixels; with data.box_format=xyxy it lies inside",
        ),
        (
            BoxReader(BoxFormat.xyxy, is_user_setting=True),
            [0.1, 0.2, 0.5, 0.9],
            "box [0.1, 0.2, 0.5, 0.9] is in fractions; boxes are [x0, y0, x1, y1] in pixels; "
            "set data.normalized=true",
        ),
        (
            BoxReader(BoxFormat.xyxy, normalized=True, is_user_setting=True),
            [10, 20, 50, 90],
            "box [10.0, 20.0, 50.0, 90.0] is not in fractions; boxes are [x0, y0, x1, y1] in "
            "fractions of the image; set data.normalized=false",
        ),
        (
            BoxReader(BoxFormat.xyxy, is_user_setting=True),
            [100, 500, 200, 600],
            "box y0=500 lies outside the image (480 px); boxes are [x0, y0, x1, y1] in pixels; "
            "with x and y swapped it lies inside: is y written first?",
        ),
        (
            BoxReader(BoxFormat.xywh),
            [500, 300, 600, 400],
            "box x1=1100 lies outside the image (640 px); boxes are [x, y, width, height] in "
            "pixels",
        ),
    ],
)
def test_a_box_that_does_not_fit_says_which_form_would(
    reader: BoxReader, numbers: list[float], why: str
) -> None:
    with pytest.raises(DataError) as caught:
        reader.read(numbers, SIZE, "boats.jsonl:17")
    assert str(caught.value) == f"boats.jsonl:17: {why}"
