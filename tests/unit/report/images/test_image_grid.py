"""Several images are placed in a grid, in their order."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palitune.report.images.drawing import load_for_display
from palitune.report.images.image_grid import load_image_grid

SIZE = (80, 40)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Ten images, each brighter than the one before."""
    files = [tmp_path / f"{number}.png" for number in range(10)]
    for number, file in enumerate(files):
        Image.new("RGB", SIZE, (20 * number,) * 3).save(file)
    return [str(file) for file in files]


def test_a_single_image_is_not_placed_in_a_grid(images: list[str]) -> None:
    assert load_image_grid(images[:1], SIZE) == load_for_display(images[0], SIZE)


@pytest.mark.parametrize(("count", "rows"), [(2, [2]), (4, [4]), (5, [4, 1]), (10, [4, 4, 2])])
def test_images_are_placed_in_rows_of_four(images: list[str], count: int, rows: list[int]) -> None:
    grid = np.asarray(load_image_grid(images[:count], SIZE, max_short_side=100).convert("L"))
    width, height = (grid.shape[1] + 6) / min(count, 4), (grid.shape[0] + 6) / len(rows)
    order = [
        grid[int((row + 0.4) * height), int((column + 0.4) * width)] // 20
        for row, num_columns in enumerate(rows)
        for column in range(num_columns)
    ]
    assert order == list(range(count))


def test_images_of_different_heights_keep_their_aspect(images: list[str], tmp_path: Path) -> None:
    Image.new("RGB", (40, 80), "red").save(tmp_path / "high.png")
    row = load_image_grid([images[9], str(tmp_path / "high.png")], SIZE, max_short_side=100)
    assert row.height == 2 * ((200 - 6) // 2)
    assert row.getpixel((10, row.height - 1)) == (255, 255, 255)
