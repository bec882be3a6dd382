"""Several images of one example as one picture: side by side, a video's frames in lines of four."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from palitune.examples import Size
from palitune.report.drawing import SHORT, load_shown

if TYPE_CHECKING:
    from PIL.Image import Image

IN_A_LINE = 4
_GAP = 6
"""Pixels between two images."""


def load_row(paths: Sequence[str], size: Size, short: int = SHORT) -> "Image":
    """Open the images of an example at the size they are shown, several as one picture.

    `size`: (width, height) in pixels of the first when it was judged; `short`: most pixels of the
    shorter side of an image that stands alone; several share twice its width.
    """
    if len(paths) == 1:
        return load_shown(paths[0], size, short)
    across = min(len(paths), IN_A_LINE)
    cell = max(1, (2 * short - _GAP * (across - 1)) // across)
    shown = [load_shown(path, size, short) for path in paths]
    return _in_lines([image.resize(_of_width(image.size, cell)) for image in shown])


def _of_width(size: Size, width: int) -> Size:
    return width, max(1, round(size[1] * width / size[0]))


def _in_lines(images: Sequence["Image"]) -> "Image":
    """Paste images of one width onto white, so many in a line, each line as high as its highest."""
    from PIL import Image

    starts = range(0, len(images), IN_A_LINE)
    lines = [images[start : start + IN_A_LINE] for start in starts]
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
