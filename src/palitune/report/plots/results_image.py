"""`results.png`: the main metrics and the training curves as one image, for pasting."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from palitune.paths import write_atomically
from palitune.report.images.drawing import load_font
from palitune.report.metrics_table import MetricValue
from palitune.report.plots.svg import (
    HEIGHT,
    MARGIN_BOTTOM,
    MARGIN_LEFT,
    MARGIN_RIGHT,
    MARGIN_TOP,
    WIDTH,
    PlotArea,
    axis_ticks,
    format_tick,
)
from palitune.report.plots.training_curves import Chart, chart_area

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_SCALE = 2
"""Pixels of the image per pixel of the plots in the report."""
_COLUMNS = 3
_MAX_CHARTS = 6
_TITLE_HEIGHT, _ROW_HEIGHT = 24, 22
_INK, _SOFT, _RULE = "#1b1f24", "#5b6470", "#dde1e7"
_LINES = ("#1f6fd6", "#d9620b", "#0b8a72", "#9a3fc4", "#b3263a", "#7a6a00")


def write_results_image(
    file: Path, title: str, values: Sequence[MetricValue], charts: Sequence[Chart]
) -> None:
    """Draw the main metrics as a table above the training curves.

    Args:
        file: PNG file to write.
        title: Heading.
        values: Metrics of the run; details are left out.
        charts: Training curves, of which the first six are drawn.
    """
    from PIL import Image, ImageDraw

    main = [value for value in values if value.detail_level < 2]
    rows = -(-min(len(charts), _MAX_CHARTS) // _COLUMNS)
    table_height = _TITLE_HEIGHT + _ROW_HEIGHT * (len(main) + 1) + 16
    size = _COLUMNS * WIDTH + 16, table_height + rows * (HEIGHT + _TITLE_HEIGHT)
    image = Image.new("RGB", (size[0] * _SCALE, size[1] * _SCALE), "white")
    canvas = ImageDraw.Draw(image)
    _draw_text(canvas, (16, 10), title, size=17)
    _draw_table(canvas, main)
    for index, chart in enumerate(charts[:_MAX_CHARTS]):
        row, column = divmod(index, _COLUMNS)
        top = table_height + row * (HEIGHT + _TITLE_HEIGHT)
        _draw_chart(canvas, chart, (column * WIDTH, top))
    with write_atomically(file) as temporary:
        image.save(temporary, "PNG")


def _draw_text(
    canvas: "ImageDraw",
    position: tuple[float, float],
    text: str,
    *,
    size: int = 13,
    color: str = _INK,
    anchor: str = "la",
) -> None:
    x, y = (side * _SCALE for side in position)
    canvas.text((x, y), text, fill=color, font=load_font(size * _SCALE), anchor=anchor)


def _draw_table(canvas: "ImageDraw", values: Sequence[MetricValue]) -> None:
    """Draw part, metric and values in columns."""
    names = ["value"]
    if values and values[0].before is not None:
        names = ["before", "after", "change"]
    top = _TITLE_HEIGHT + 12
    for row in range(len(values) + 1):
        y = top + row * _ROW_HEIGHT
        cells = values[row - 1].cells if row else names
        left = (values[row - 1].part, values[row - 1].name) if row else ("part", "metric")
        color = _INK if row else _SOFT
        for x, text in zip((16, 200), left, strict=True):
            _draw_text(canvas, (x, y), text[:28], color=color)
        for index, text in enumerate(cells):
            _draw_text(canvas, (500 + 110 * index, y), text, color=color, anchor="ra")


def _draw_chart(canvas: "ImageDraw", chart: Chart, corner: tuple[float, float]) -> None:
    """Draw a chart with its upper left corner at a position in pixels of the report."""
    area = chart_area(chart)
    left, top = corner[0], corner[1] + _TITLE_HEIGHT
    _draw_text(canvas, (left + 16, corner[1] + 4), chart.title.replace("_", " "), size=14)
    _draw_axes(canvas, area, (left, top))
    x_legend = left + 16 + 9 * len(chart.title) + 20
    for index, (series, (name, last)) in enumerate(zip(chart.series, chart.legend, strict=True)):
        color = _LINES[index % len(_LINES)]
        points = [(area.x(x) + left, area.y(y) + top) for x, y in series.points]
        path = [(x * _SCALE, y * _SCALE) for x, y in points]
        canvas.line(path, fill=color, width=2 * _SCALE, joint="curve")
        text = f"{name} {last}"
        _draw_text(canvas, (x_legend, corner[1] + 5), text, size=12, color=color)
        x_legend += 7 * len(text) + 14


def _draw_axes(canvas: "ImageDraw", area: PlotArea, corner: tuple[float, float]) -> None:
    left, top = corner
    for value in axis_ticks(*area.y_range, 4, inside=True):
        y = top + area.y(value)
        ends = (left + MARGIN_LEFT, left + WIDTH - MARGIN_RIGHT)
        line = [(x * _SCALE, y * _SCALE) for x in ends]
        canvas.line(line, fill=_RULE, width=_SCALE)
        position = (left + MARGIN_LEFT - 6, y)
        _draw_text(canvas, position, format_tick(value), size=11, color=_SOFT, anchor="rm")
    bottom = top + HEIGHT - MARGIN_BOTTOM + MARGIN_TOP / 2
    for value in axis_ticks(*area.x_range, 5, inside=True):
        position = (left + area.x(value), bottom)
        _draw_text(canvas, position, format_tick(value), size=11, color=_SOFT, anchor="ma")
    center = (left + (MARGIN_LEFT + WIDTH) / 2, bottom + 16)
    _draw_text(canvas, center, "step", size=11, color=_SOFT, anchor="ma")
