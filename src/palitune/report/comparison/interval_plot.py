"""One number of several runs as inline SVG: a point with its 95 % interval per run, best on top."""

import math
from collections.abc import Sequence
from html import escape

from palitune.metrics import higher_is_better
from palitune.report.comparison.compare import ComparisonRow, ComparisonTable
from palitune.report.metrics_table import Interval, format_number
from palitune.report.plots.svg import axis_ticks, format_tick

WIDTH = 380
_LEFT, _RIGHT, _BOTTOM = 8, 8, 26
_ROW_HEIGHT = 40
# Letters that fit beside the value.
_MAX_LABEL_LENGTH = 44


def sorted_rows(table: ComparisonTable, name: str) -> list[ComparisonRow]:
    """The runs that have a number, the best first, equals in their order."""
    rows = [row for row in table.rows if name in row.metric_values]
    defined = [row for row in rows if not math.isnan(row.metric_values[name].after)]
    best_first = higher_is_better(name)
    return sorted(defined, key=lambda row: row.metric_values[name].after, reverse=best_first)


def draw_interval_plot(table: ComparisonTable, name: str) -> str:
    """Draw a number of a table; colours are the page's classes `line-0` ... in the order of rows.

    Empty where no run has the number.
    """
    rows = sorted_rows(table, name)
    if not rows:
        return ""
    ends = [end for row in rows for end in _value_and_bounds(row, name)]
    values = axis_ticks(min(ends), max(ends), 4)
    axis = _Axis(values[0], values[-1])
    bottom = len(rows) * _ROW_HEIGHT + 4
    described = escape(f"{name} of {len(rows)} runs with 95 % intervals", quote=True)
    parts = [f'<svg viewBox="0 0 {WIDTH} {bottom + _BOTTOM}" role="img" aria-label="{described}">']
    for place, value in enumerate(values):
        anchor = {0: "start", len(values) - 1: "end"}.get(place, "middle")
        parts.append(f'<path class="grid" d="M{axis.x(value)} 0V{bottom}"/>')
        parts.append(f'<text class="tick" x="{axis.x(value)}" y="{bottom + 16}"')
        parts.append(f' text-anchor="{anchor}">{format_tick(value)}</text>')
    base = table.baseline.metric_values.get(name)
    if base is not None and not math.isnan(base.after):
        parts.append(f'<path class="baseline" d="M{axis.x(base.after)} 0V{bottom}"/>')
    parts += [
        _draw_row(table, row, name, place * _ROW_HEIGHT, axis) for place, row in enumerate(rows)
    ]
    return "".join([*parts, "</svg>"])


class _Axis:
    """Maps values to the drawing's width."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)


def _draw_row(
    table: ComparisonTable, row: ComparisonRow, name: str, top: float, axis: _Axis
) -> str:
    number = row.metric_values[name]
    colour = f"line-{table.rows.index(row) % 6}"
    label = (
        row.label
        if len(row.label) <= _MAX_LABEL_LENGTH
        else row.label[: _MAX_LABEL_LENGTH - 1] + "…"
    )
    interval = _interval(row, name)
    told = f"{row.label}: {format_number(name, number.after)}"
    line = ""
    if interval:
        told += f", 95 % interval {' to '.join(format_number(name, end) for end in interval)}"
        low, high = (axis.x(end) for end in interval)
        y = top + 29
        line = f'<path class="{colour}" d="M{low} {y}H{high}M{low} {y - 5}v10M{high} {y - 5}v10"/>'
    hollow = " hollow" if row is table.baseline else ""
    return (
        f"<g><title>{escape(told)}</title>"
        f'<text class="run" x="{_LEFT}" y="{top + 15}">{escape(label)}</text>'
        f'<text class="run" x="{WIDTH - _RIGHT}" y="{top + 15}" text-anchor="end">'
        f"{format_number(name, number.after)}</text>{line}"
        f'<circle class="{colour}{hollow}" cx="{axis.x(number.after)}" cy="{top + 29}" r="5"/></g>'
    )


def _value_and_bounds(row: ComparisonRow, name: str) -> Sequence[float]:
    return [row.metric_values[name].after, *(_interval(row, name) or ())]


def _interval(row: ComparisonRow, name: str) -> Interval | None:
    return row.metric_values[name].intervals[1]
