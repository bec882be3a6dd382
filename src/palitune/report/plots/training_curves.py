"""Training curves as inline SVG."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from palitune.report.metrics_table import detail_levels
from palitune.report.plots.svg import (
    PlotArea,
    Point,
    axis_ticks,
    format_tick,
    points_to_csv,
    svg_element,
)

# A curve with more points is averaged in buckets, which keeps the page small.
_MAX_POINTS = 300
# Up to this number of points, each is drawn as a dot with its value as a tooltip.
_MAX_DOTS = 40
# Share of a noisy curve that is averaged around each point.
_SMOOTHING_WINDOW = 0.08
# A schedule has no noise; averaging would distort it.
_UNSMOOTHED = ("learning_rate",)
# Splits that a history has metrics of, in addition to the training steps.
_EVALUATED_SPLITS = ("validation", "minitrain", "minival")


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: tuple[Point, ...]
    """(step, value) in the order of the steps; finite values only."""


@dataclass(frozen=True)
class Chart:
    """Lines that share one vertical axis."""

    title: str
    series: tuple[Series, ...]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(name, last value) of each line; the name of a single line is `last`."""
        return [
            (
                "last" if s.name in (self.title, "training") and len(self.series) == 1 else s.name,
                format_tick(_display_points(self, s)[-1][1]),
            )
            for s in self.series
        ]

    @property
    def csv(self) -> str:
        """The drawn points: a row per step, a column per line."""
        return points_to_csv("step", {s.name: _display_points(self, s) for s in self.series})


def training_charts(history: Iterable[dict[str, float]]) -> list[Chart]:
    """Group a history into charts: loss, learning rate, validation metrics, others.

    `validation/ocr/exact_match` is the line `ocr` of the chart `exact_match`.
    """
    lines: dict[tuple[str, str], dict[float, float]] = {}
    for record in history:
        for name, value in record.items():
            if name not in {"step", "epoch"} and "step" in record and math.isfinite(value):
                lines.setdefault(_chart_and_line(name), {})[record["step"]] = value
    detail = {
        name
        for part in _titles_by_line(lines)
        for name, level in detail_levels(part).items()
        if level == 2
    }
    titles = [name for name in dict.fromkeys(chart for chart, _ in lines) if name not in detail]
    titles = sorted(titles, key=lambda name: (name != "loss", name != "learning_rate"))
    return [
        Chart(
            chart,
            tuple(
                Series(line, tuple(sorted(points.items())))
                for (title, line), points in lines.items()
                if title == chart
            ),
        )
        for chart in titles
    ]


def _titles_by_line(lines: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the chart titles of each line (part); details are determined per part."""
    parts: dict[str, list[str]] = {}
    for chart, line in lines:
        parts.setdefault(line, []).append(chart)
    return list(parts.values())


def chart_area(chart: Chart) -> PlotArea:
    """Return the plot area of a chart, with round limits of its vertical axis."""
    points = [point for series in chart.series for point in series.points]
    values = axis_ticks(*_axis_range([y for _, y in points]), 4)
    steps = [x for x, _ in points]
    return PlotArea((min(steps), max(steps)), (values[0], values[-1]))


def draw_chart(chart: Chart) -> str:
    """Draw a chart as an `<svg>` element; its colors are the CSS classes `line-0`, `line-1`, ..."""
    area = chart_area(chart)
    span, values = area.x_range, axis_ticks(*area.y_range, 4)
    lines = [_draw_line(chart, series, index, area) for index, series in enumerate(chart.series)]
    steps = axis_ticks(*span, 5, inside=True)
    return svg_element(
        f"{chart.title} over training steps",
        area.draw_axes(steps, values, "step", chart.title.replace("_", " ")) + "".join(lines),
        x_range=span,
    )


def _draw_line(chart: Chart, series: Series, index: int, area: PlotArea) -> str:
    color = f"line-{index % 6}"
    points = _display_points(chart, series)
    line = f'<path class="{color}" d="{area.to_path(points)}"/>'
    if len(series.points) <= _MAX_DOTS:
        return line + "".join(
            f'<circle class="{color}" cx="{area.x(x)}" cy="{area.y(y)}" r="3">'
            f"<title>{escape(series.name)} {y:.4g} at step {format_tick(x)}</title></circle>"
            for x, y in points
        )
    if chart.title in _UNSMOOTHED:
        return line
    return f'<path class="{color} raw" d="{area.to_path(downsample(series.points))}"/>{line}'


def _display_points(chart: Chart, series: Series) -> Sequence[Point]:
    """Return the points of the strong line: the average of a noisy curve."""
    points = downsample(series.points)
    noisy = len(series.points) > _MAX_DOTS and chart.title not in _UNSMOOTHED
    return smooth(points) if noisy else points


def smooth(points: Sequence[Point]) -> list[Point]:
    """Return a centered moving average, which does not lag behind the curve."""
    reach = max(1, round(len(points) * _SMOOTHING_WINDOW / 2))
    result: list[Point] = []
    for index, (step, _) in enumerate(points):
        window = [value for _, value in points[max(0, index - reach) : index + reach + 1]]
        result.append((step, sum(window) / len(window)))
    return result


def downsample(points: Sequence[Point]) -> list[Point]:
    """Average a long curve in buckets of equal size."""
    size = -(-len(points) // _MAX_POINTS)
    buckets = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in bucket) / len(bucket), sum(y for _, y in bucket) / len(bucket))
        for bucket in buckets
    ]


def _axis_range(values: Sequence[float]) -> Point:
    """Return the range of values, from zero if this leaves less than half of the height empty."""
    low, high = min(values), max(values)
    return (0.0 if 0 <= low < high / 2 else low), high


def _chart_and_line(name: str) -> tuple[str, str]:
    kind, *path = name.split("/")
    if kind == "align" and path:
        return path[-1], "training"
    if kind not in _EVALUATED_SPLITS or not path:
        return name, "training" if name == "loss" else name
    is_metric = kind == "validation" and path[-1] != "loss"
    return path[-1], " ".join(path[:-1] if is_metric else [kind, *path[:-1]])
