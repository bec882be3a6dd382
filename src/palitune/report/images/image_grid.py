"""The images of one example as one image: a grid with four images in a row."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from palitune.records import Size, Tile
from palitune.report.images.drawing import MAX_SHORT_SIDE, load_for_display

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES_PER_ROW = 4
_GAP = 6
"""Pixels between two images."""


def load_image_grid(
    paths: Sequence[str],
    size: Size,
    max_short_side: int = MAX_SHORT_SIDE,
    tile: Tile | None = None,
) -> "Image":
    """Open the images of an example at their display size; several are placed in a grid.

    Args:
        paths: Image files.
        size: (width, height) in pixels of the first image when it was evaluated.
        max_short_side: Maximum pixels of the shorter side of a single image. A grid is at most
            twice as wide.
        tile: Part of a single image; None: the whole image.
    """
    if len(paths) == 1:
        return load_for_display(paths[0], size, max_short_side, tile)
    columns = min(len(paths), IMAGES_PER_ROW)
    width = max(1, (2 * max_short_side - _GAP * (columns - 1)) // columns)
    images = [load_for_display(path, size, max_short_side) for path in paths]
    return _paste_grid(
        [
            image.resize((width, max(1, round(image.height * width / image.width))))
            for image in images
        ]
    )


def _paste_grid(images: Sequence["Image"]) -> "Image":
    """Paste images of equal width onto white; a row is as high as its highest image."""
    from PIL import Image

    starts = range(0, len(images), IMAGES_PER_ROW)
    rows = [images[start : start + IMAGES_PER_ROW] for start in starts]
    heights = [max(image.height for image in row) for row in rows]
    step = images[0].width + _GAP
    size = step * len(rows[0]) - _GAP, sum(heights) + _GAP * (len(rows) - 1)
    canvas = Image.new("RGB", size, "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            canvas.paste(image, (column * step, top))
        top += height + _GAP
    return canvas
