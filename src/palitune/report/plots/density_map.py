"""Density maps: how often values fall into each cell of a grid, as a drawing."""

from collections.abc import Sequence
from dataclasses import dataclass

from palitune.report.plots.svg import svg_element, svg_text

_CELL, _MARGIN = 8, 26


@dataclass(frozen=True)
class DensityMap:
    """A drawing with its title."""

    title: str
    svg: str


def draw_density_map(
    title: str, counts: Sequence[Sequence[int]], x_title: str, y_title: str
) -> DensityMap:
    """Draw a grid of counts; the darkest cell has the most.

    Args:
        title: Title of the drawing.
        counts: Counts by row and column, the first row at the top.
        x_title: Title of the horizontal axis.
        y_title: Title of the vertical axis.
    """
    most = max(max(row) for row in counts) or 1
    width, height = _CELL * len(counts[0]), _CELL * len(counts)
    cells = [
        f'<rect x="{_MARGIN + _CELL * x}" y="{_CELL * y}" width="{_CELL}" height="{_CELL}" '
        f'fill="currentColor" fill-opacity="{max(count / most, 0.06):.2f}">'
        f"<title>{count:,}</title></rect>"
        for y, row in enumerate(counts)
        for x, count in enumerate(row)
        if count
    ]
    frame = (
        f'<rect x="{_MARGIN}" y="0" width="{width}" height="{height}" fill="none" '
        'stroke="currentColor" stroke-opacity="0.3"/>'
    )
    middle = height / 2
    texts = [
        svg_text(_MARGIN + width / 2, height + 16, x_title),
        f'<g transform="rotate(-90 12 {middle:g})">{svg_text(12, middle, y_title)}</g>',
    ]
    content = "".join([frame, *cells, *texts])
    return DensityMap(title, svg_element(title, content, width + _MARGIN, height + _MARGIN))
