"""The curves of a run as inline SVG: small, styled by the page, readable in light and dark."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from palitune.report.metrics_table import detail_levels
from palitune.report.plots.svg import PlotArea, Point, axis_ticks, format_tick, svg_element

# A curve of more points is averaged in buckets: the eye cannot tell, the page stays small.
_MAX_POINTS = 300
# Fewer points than this get a dot each, with its value as a tooltip.
_MAX_DOTS = 40
# Share of a noisy curve that is averaged around each of its points.
_SMOOTHING_WINDOW = 0.08
# A schedule has no noise; averaging would only bend it.
_UNSMOOTHED = ("learning_rate",)
# What a history tells numbers of besides the training steps themselves.
_EVALUATED_SPLITS = ("validation", "minitrain", "minival")


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: tuple[Point, ...]
    """(step, value), finite values only, by step."""


@dataclass(frozen=True)
class Chart:
    """Series that share one vertical axis."""

    title: str
    series: tuple[Series, ...]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """(name, last value) of each series; only `last` where the title says it all."""
        return [
            (
                "last" if s.name in (self.title, "training") and len(self.series) == 1 else s.name,
                format_tick(_display_points(self, s)[-1][1]),
            )
            for s in self.series
        ]


def training_charts(history: Iterable[dict[str, float]]) -> list[Chart]:
    """Sort a history into charts: loss, learning rate, one per validation number, the rest.

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
        for name, rank in detail_levels(part).items()
        if rank == 2
    }
    titles = [name for name in dict.fromkeys(chart for chart, _ in lines) if name not in detail]
    shown = sorted(titles, key=lambda name: (name != "loss", name != "learning_rate"))
    return [
        Chart(
            chart,
            tuple(
                Series(line, tuple(sorted(points.items())))
                for (title, line), points in lines.items()
                if title == chart
            ),
        )
        for chart in shown
    ]


def _titles_by_line(lines: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The chart titles of each line (part), which are ranked apart from other parts' ones."""
    parts: dict[str, list[str]] = {}
    for chart, line in lines:
        parts.setdefault(line, []).append(chart)
    return list(parts.values())


def draw_chart(chart: Chart) -> str:
    """Write a chart as an `<svg>` element; its colours are the page's classes `line-0` ... ."""
    points = [point for series in chart.series for point in series.points]
    span = min(x for x, _ in points), max(x for x, _ in points)
    values = axis_ticks(*_axis_range([y for _, y in points]), 4)
    frame = PlotArea(span, (values[0], values[-1]))
    lines = [_draw_line(chart, series, index, frame) for index, series in enumerate(chart.series)]
    steps = axis_ticks(*span, 5, inside=True)
    return svg_element(
        f"{chart.title} over training steps", frame.draw_axes(steps, values) + "".join(lines)
    )


def _draw_line(chart: Chart, series: Series, index: int, frame: PlotArea) -> str:
    colour = f"line-{index % 6}"
    points = _display_points(chart, series)
    line = f'<path class="{colour}" d="{frame.to_path(points)}"/>'
    if len(series.points) <= _MAX_DOTS:
        return line + "".join(
            f'<circle class="{colour}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="3">'
            f"<title>{escape(series.name)} {y:.4g} at step {format_tick(x)}</title></circle>"
            for x, y in points
        )
    if chart.title in _UNSMOOTHED:
        return line
    return f'<path class="{colour} raw" d="{frame.to_path(downsample(series.points))}"/>{line}'


def _display_points(chart: Chart, series: Series) -> Sequence[Point]:
    """The points of the strong line: of a noisy curve its average."""
    points = downsample(series.points)
    noisy = len(series.points) > _MAX_DOTS and chart.title not in _UNSMOOTHED
    return smooth(points) if noisy else points


def smooth(points: Sequence[Point]) -> list[Point]:
    """Average each value with its neighbours on both sides, so that the curve does not lag."""
    reach = max(1, round(len(points) * _SMOOTHING_WINDOW / 2))
    result: list[Point] = []
    for place, (step, _) in enumerate(points):
        around = [value for _, value in points[max(0, place - reach) : place + reach + 1]]
        result.append((step, sum(around) / len(around)))
    return result


def downsample(points: Sequence[Point]) -> list[Point]:
    """Average a long curve in buckets of equal length."""
    size = -(-len(points) // _MAX_POINTS)
    buckets = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in bucket) / len(bucket), sum(y for _, y in bucket) / len(bucket))
        for bucket in buckets
    ]


def _axis_range(values: Sequence[float]) -> Point:
    """From zero where that wastes less than half of the height, else from the least value."""
    low, high = min(values), max(values)
    return (0.0 if 0 <= low < high / 2 else low), high


def _chart_and_line(name: str) -> tuple[str, str]:
    kind, *path = name.split("/")
    if kind == "align" and path:
        return path[-1], "training"
    if kind not in _EVALUATED_SPLITS or not path:
        return name, "training" if name == "loss" else name
    known = kind == "validation" and path[-1] != "loss"
    return path[-1], " ".join(path[:-1] if known else [kind, *path[:-1]])
