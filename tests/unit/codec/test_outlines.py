import numpy as np
import pytest
from PIL import Image, ImageDraw

from palitune.codec.outlines import mask_outlines


def fill(shape: tuple[int, int], polygons: list[np.ndarray]) -> np.ndarray:
    """Fill polygons along pixel edges with the even-odd rule, by the centers of the pixels."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for polygon in polygons:
        for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y0 != y1:
                crossing = ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
                inside ^= crossing
    return inside


@pytest.mark.parametrize("seed", range(6))
def test_outlines_without_tolerance_cover_exactly_the_mask(seed: int) -> None:
    mask = np.random.default_rng(seed).random((13, 17)) < 0.2 + 0.12 * seed
    assert (fill(mask.shape, mask_outlines(mask, 0)) == mask).all()


def test_a_rectangle_has_four_corners_and_a_hole_its_own_outline() -> None:
    mask = np.zeros((10, 12), bool)
    mask[2:8, 3:11] = True
    assert {tuple(p) for p in mask_outlines(mask)[0].tolist()} == {(3, 2), (11, 2), (11, 8), (3, 8)}
    mask[4:6, 5:8] = False
    assert [len(ring) for ring in mask_outlines(mask)] == [4, 4]
    assert mask_outlines(np.zeros((4, 4), bool)) == []


def test_the_outline_of_a_disk_is_short_and_close() -> None:
    image = Image.new("1", (200, 200))
    ImageDraw.Draw(image).ellipse((20, 20, 180, 180), fill=1)
    mask = np.asarray(image)
    (outline,) = mask_outlines(mask, tolerance=1)
    filled = fill(mask.shape, [outline])
    assert len(outline) < 60
    assert (filled & mask).sum() / (filled | mask).sum() > 0.97
