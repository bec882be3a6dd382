"""Masks: decoded as by pycocotools; an invalid mask is an error with its reason."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from palitune.data.sources.masks.formats import (
    MASK_DESCRIPTION,
    check_mask_in_box,
    connected_components,
    mask_to_box,
    parse_segmentation,
)
from palitune.errors import DataError
from palitune.records import Mask

SIZE = (40, 30)
SQUARE = [10, 5, 20, 5, 20, 15, 10, 15]
masks = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda s: arrays(np.bool_, s))


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[y0:y1, x0:x1] = True
    return mask


@given(mask=masks.filter(lambda mask: bool(mask.any())))
def test_run_lengths_are_decoded_compressed_or_not(mask: Mask) -> None:
    height, width = mask.shape
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    flat = mask.ravel(order="F")
    ends = [*np.flatnonzero(np.diff(flat, prepend=False)).tolist(), flat.size]
    counts = np.diff([0, *ends]).tolist()
    for written in (encoded["counts"], encoded["counts"].decode(), counts):
        rle = {"size": [height, width], "counts": written}
        assert np.array_equal(parse_segmentation(rle, (width, height), "here"), mask)


@given(counts=st.text(st.characters(min_codepoint=32, max_codepoint=120), max_size=12))
def test_damaged_run_lengths_are_an_error_or_lie_in_the_image(counts: str) -> None:
    try:
        mask = parse_segmentation({"size": [30, 40], "counts": counts}, SIZE, "here")
    except DataError:
        return
    assert mask.shape == (30, 40)


@pytest.mark.parametrize(
    ("written", "normalized"),
    [
        (SQUARE, False),
        ([SQUARE], False),
        ([[10, 5], [20, 5], [20, 15], [10, 15]], False),
        ([[[10, 5], [20, 5], [20, 15], [10, 15]]], False),
        ([x / SIZE[i % 2] for i, x in enumerate(SQUARE)], True),
    ],
)
def test_polygons_may_be_written_in_several_ways(written: Any, normalized: bool) -> None:
    mask = parse_segmentation(written, SIZE, "here", normalized=normalized)
    assert np.array_equal(mask, rectangle(10, 5, 20, 15))


def test_several_polygons_are_one_mask() -> None:
    mask = parse_segmentation([SQUARE, [0, 0, 4, 0, 4, 4, 0, 4]], SIZE, "here")
    assert np.array_equal(mask, rectangle(10, 5, 20, 15) | rectangle(0, 0, 4, 4))


FLAT = "polygon must be a flat list of x, y, x, y, ..."
RLE_SIZE = "run lengths must have the size [30, 40] (height, width) of the image"
RLE_SUM = "run lengths must add up to the 1200 pixels of the image"


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ([[1, 2, 3, 4]], "polygon must have at least 3 points, got 2 in [1, 2, 3, 4]."),
        ([[1, 2, 3, 4, 5]], f"{FLAT}, got [1, 2, 3, 4, 5]."),
        ([[1, 2, 3, 4, 5, "6"]], f"{FLAT}, got [1, 2, 3, 4, 5, '6']."),
        ([[1, 2, 3, float("nan"), 5, 6]], f"{FLAT}, got [1, 2, 3, nan, 5, 6]."),
        ([{}], f"{FLAT}, got [{{}}]."),
        (
            [[1, 1, 5, 1, 9, 1]],
            "mask must have at least one pixel, got none. Drop or redraw the object.",
        ),
        (
            [[1, 2, 3, 4, 90, 6]],
            "polygon must lie inside the image (40x30 px), got the box [1, 2, 90, 6].",
        ),
        (
            [[5, 10, 5, 39, 15, 39]],
            "polygon must lie inside the image (40x30 px), got the box [5, 10, 15, 39]. Correct or "
            "drop it. With x and y swapped it lies inside; check whether y is written first.",
        ),
        (None, f"mask must be {MASK_DESCRIPTION}, got None."),
        ([], f"mask must be {MASK_DESCRIPTION}, got []."),
        ("a.png", f"mask must be {MASK_DESCRIPTION}, got 'a.png'."),
        (
            {"size": [40, 30], "counts": [1200]},
            f"{RLE_SIZE}, got [40, 30].",
        ),
        ({"counts": [1200]}, f"{RLE_SIZE}, got None."),
        ({"size": [30, 40], "counts": [600]}, f"{RLE_SUM}, got [600]."),
        ({"size": [30, 40], "counts": [-5, 1205]}, f"{RLE_SUM}, got [-5, 1205]."),
        ({"size": [30, 40], "counts": [True]}, f"{RLE_SUM}, got [True]."),
        ({"size": [30, 40], "counts": "é"}, f"{RLE_SUM}, got 'é'."),
        ({"size": [30, 40], "counts": ""}, f"{RLE_SUM}, got ''."),
        ({"size": [30, 40]}, f"{RLE_SUM}, got None."),
        ({"size": [30, 40], "counts": [1200]}, "mask must have at least one pixel"),
    ],
)
def test_an_invalid_mask_is_an_error(written: Any, why: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_segmentation(written, SIZE, "boats.json, annotation id 5")
    assert str(caught.value).startswith(f"boats.json, annotation id 5: {why}")
    assert "\n" not in str(caught.value)


def test_a_mask_may_leave_its_box_by_a_little() -> None:
    mask = rectangle(10, 5, 20, 15)
    check_mask_in_box(mask, (10, 5, 20, 15), "here")
    check_mask_in_box(mask, (11, 6, 19, 14), "here")
    with pytest.raises(DataError) as caught:
        check_mask_in_box(mask, (10, 5, 15, 10), "here")
    assert str(caught.value) == (
        "here: mask must lie in its box [10, 5, 15, 10], got [10, 5, 20, 15] with 64 of 100 pixels "
        "outside. Correct the mask or the box."
    )
    with pytest.raises(DataError, match="With x and y swapped it lies inside; check whether"):
        check_mask_in_box(mask, (5, 10, 15, 20), "here")


def test_an_empty_mask_is_accepted_from_predictions() -> None:
    rle = {"size": [30, 40], "counts": [1200]}
    assert not parse_segmentation(rle, SIZE, "here", allow_empty=True).any()


@given(mask=masks)
def test_components_are_the_connected_regions(mask: Mask) -> None:
    parts = list(connected_components(mask))
    total = sum((part.astype(int) for part in parts), np.zeros(mask.shape, int))
    assert np.array_equal(total, mask.astype(int)), "each pixel lies in exactly one"
    for part in parts:
        grown = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), bool)
        for dy in range(3):
            for dx in range(3):
                grown[dy : dy + mask.shape[0], dx : dx + mask.shape[1]] |= part
        assert np.array_equal(grown[1:-1, 1:-1] & mask, part), "none touches another"
        assert len(list(connected_components(part))) == 1


def test_components_join_branches_that_meet_below() -> None:
    mask = np.array([[1, 0, 1, 0, 1], [1, 0, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    assert len(list(connected_components(mask))) == 1
    assert mask_to_box(mask) == (0, 0, 5, 3)
