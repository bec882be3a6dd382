"""The curves of a run as inline SVG: small, styled by the page, readable in light and dark."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from palitune.report.summary import ranked

Point = tuple[float, float]

WIDTH, HEIGHT = 380, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 12, 30
# A curve of more points is averaged in buckets: the eye cannot tell, the page stays small.
_MOST_POINTS = 300
# Fewer points than this get a dot each, with its value as a tooltip.
_DOTTED = 40
# Share of a noisy curve that is averaged around each of its points.
_WINDOW = 0.08
# A schedule has no noise; averaging would only bend it.
_EXACT = ("learning_rate",)
# What a history tells numbers of besides the training steps themselves.
_MEASURED_ON = ("validation", "minitrain", "minival")


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
                short(_drawn(self, s)[-1][1]),
            )
            for s in self.series
        ]


def charts(history: Iterable[dict[str, float]]) -> list[Chart]:
    """Sort a history into charts: loss, learning rate, one per validation number, the rest.

    `validation/ocr/exact_match` is the line `ocr` of the chart `exact_match`.
    """
    lines: dict[tuple[str, str], dict[float, float]] = {}
    for record in history:
        for name, value in record.items():
            if name not in {"step", "epoch"} and "step" in record and math.isfinite(value):
                lines.setdefault(_chart_and_line(name), {})[record["step"]] = value
    detail = {name for part in _parts(lines) for name, rank in ranked(part).items() if rank == 2}
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


def _parts(lines: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The chart titles of each line (part), which are ranked apart from other parts' ones."""
    parts: dict[str, list[str]] = {}
    for chart, line in lines:
        parts.setdefault(line, []).append(chart)
    return list(parts.values())


def svg(chart: Chart) -> str:
    """Write a chart as an `<svg>` element; its colours are the page's classes `line-0` ... ."""
    points = [point for series in chart.series for point in series.points]
    steps = ticks(min(x for x, _ in points), max(x for x, _ in points), 5, inside=True)
    values = ticks(*_span([y for _, y in points]), 4)
    frame = _Frame((min(x for x, _ in points), max(x for x, _ in points)), (values[0], values[-1]))
    described = escape(f"{chart.title} over training steps", quote=True)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{described}">']
    for value in values:
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:g}" text-anchor="end">')
        parts.append(f"{short(value)}</text>")
    for step in steps:
        x = frame.x(step)
        anchor = "end" if x > WIDTH - 2 * _RIGHT else "middle"
        parts.append(f'<text class="tick" x="{x}" y="{HEIGHT - 10}" text-anchor="{anchor}">')
        parts.append(f"{short(step)}</text>")
    for index, series in enumerate(chart.series):
        parts.append(_line(chart, series, index, frame))
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True)
class _Frame:
    """Maps steps and values to the drawing's coordinates."""

    steps: Point
    values: Point

    def x(self, step: float) -> float:
        low, high = self.steps
        share = (step - low) / (high - low) if high > low else 0.5
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.values
        return round(HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM), 1)

    def path(self, points: Iterable[Point]) -> str:
        return "M" + "L".join(f"{self.x(x)} {self.y(y)}" for x, y in points)


def _line(chart: Chart, series: Series, index: int, frame: _Frame) -> str:
    colour = f"line-{index % 6}"
    points = _drawn(chart, series)
    line = f'<path class="{colour}" d="{frame.path(points)}"/>'
    if len(series.points) <= _DOTTED:
        return line + "".join(
            f'<circle class="{colour}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="3">'
            f"<title>{escape(series.name)} {y:.4g} at step {short(x)}</title></circle>"
            for x, y in points
        )
    if chart.title in _EXACT:
        return line
    return f'<path class="{colour} raw" d="{frame.path(thinned(series.points))}"/>{line}'


def _drawn(chart: Chart, series: Series) -> Sequence[Point]:
    """The points of the strong line: of a noisy curve its average."""
    points = thinned(series.points)
    noisy = len(series.points) > _DOTTED and chart.title not in _EXACT
    return smoothed(points) if noisy else points


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Average each value with its neighbours on both sides, so that the curve does not lag."""
    reach = max(1, round(len(points) * _WINDOW / 2))
    result: list[Point] = []
    for place, (step, _) in enumerate(points):
        around = [value for _, value in points[max(0, place - reach) : place + reach + 1]]
        result.append((step, sum(around) / len(around)))
    return result


def thinned(points: Sequence[Point]) -> list[Point]:
    """Average a long curve in buckets of equal length."""
    size = -(-len(points) // _MOST_POINTS)
    buckets = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in bucket) / len(bucket), sum(y for _, y in bucket) / len(bucket))
        for bucket in buckets
    ]


_FLAT = 1e-12
"""A range that is smaller than this share of its numbers, or of 1, is drawn as a flat line."""


def ticks(low: float, high: float, about: int, *, inside: bool = False) -> list[float]:
    """Choose round values that cover [low, high], or lie `inside` it, about so many."""
    size = max(abs(low), abs(high), 1.0)
    if high - low <= _FLAT * size:
        margin = 0.5 * abs(low) if abs(low) > _FLAT else 0.5
        return [low] if inside else [low - margin, low + margin]
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= raw * (1 - 1e-9))
    first, last = low / step, high / step
    start = math.ceil(first - 1e-9) if inside else math.floor(first + 1e-9)
    end = math.floor(last + 1e-9) if inside else math.ceil(last - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(start, end + 1)]


def short(value: float) -> str:
    """Write a tick in few characters: 12k, 0.25, 2e-5."""
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k" if abs(value) < 1e6 else f"{value / 1e6:g}M"
    if 0 < abs(value) < 1e-3:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.4g}"


def _span(values: Sequence[float]) -> Point:
    """From zero where that wastes less than half of the height, else from the least value."""
    low, high = min(values), max(values)
    return (0.0 if 0 <= low < high / 2 else low), high


def _chart_and_line(name: str) -> tuple[str, str]:
    kind, *path = name.split("/")
    if kind not in _MEASURED_ON or not path:
        return name, "training" if name == "loss" else name
    known = kind == "validation" and path[-1] != "loss"
    return path[-1], " ".join(path[:-1] if known else [kind, *path[:-1]])
