"""Several images of one example as one picture: side by side, a video's frames in lines of four."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from palitune.records import Size
from palitune.report.images.drawing import MAX_SHORT_SIDE, load_for_display

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGES_PER_ROW = 4
_GAP = 6
"""Pixels between two images."""


def load_image_grid(
    paths: Sequence[str], size: Size, max_short_side: int = MAX_SHORT_SIDE
) -> "Image":
    """Open the images of an example at the size they are shown, several as one picture.

    `size`: (width, height) in pixels of the first when it was judged; `short`: most pixels of the
    shorter side of an image that stands alone; several share twice its width.
    """
    if len(paths) == 1:
        return load_for_display(paths[0], size, max_short_side)
    across = min(len(paths), IMAGES_PER_ROW)
    cell = max(1, (2 * max_short_side - _GAP * (across - 1)) // across)
    shown = [load_for_display(path, size, max_short_side) for path in paths]
    return _paste_grid([image.resize(_size_for_width(image.size, cell)) for image in shown])


def _size_for_width(size: Size, width: int) -> Size:
    return width, max(1, round(size[1] * width / size[0]))


def _paste_grid(images: Sequence["Image"]) -> "Image":
    """Paste images of one width onto white, so many in a line, each line as high as its highest."""
    from PIL import Image

    starts = range(0, len(images), IMAGES_PER_ROW)
    lines = [images[start : start + IMAGES_PER_ROW] for start in starts]
    heights = [max(image.height for image in line) for line in lines]
    step = images[0].width + _GAP
    size = step * len(lines[0]) - _GAP, sum(heights) + _GAP * (len(lines) - 1)
    canvas = Image.new("RGB", size, "white")
    top = 0
    for line, height in zip(lines, heights, strict=True):
        for place, image in enumerate(line):
            canvas.paste(image, (place * step, top))
        top += height + _GAP
    return canvas
