"""One number of several runs as inline SVG: a point with its 95 % interval per run, best on top."""

import math
from collections.abc import Sequence
from html import escape

from palitune.metrics import higher_is_better
from palitune.report.comparison import Row, Table
from palitune.report.summary import Interval, written
from palitune.report.svg import short, ticks

WIDTH = 380
_LEFT, _RIGHT, _BOTTOM = 8, 8, 26
_ROW = 40
# Letters that fit beside the value.
_LETTERS = 44


def ordered(table: Table, name: str) -> list[Row]:
    """The runs that have a number, the best first, equals in their order."""
    rows = [row for row in table.rows if name in row.numbers]
    defined = [row for row in rows if not math.isnan(row.numbers[name].after)]
    best_first = higher_is_better(name)
    return sorted(defined, key=lambda row: row.numbers[name].after, reverse=best_first)


def svg(table: Table, name: str) -> str:
    """Draw a number of a table; colours are the page's classes `line-0` ... in the order of rows.

    Empty where no run has the number.
    """
    rows = ordered(table, name)
    if not rows:
        return ""
    ends = [end for row in rows for end in _ends(row, name)]
    values = ticks(min(ends), max(ends), 4)
    axis = _Axis(values[0], values[-1])
    bottom = len(rows) * _ROW + 4
    described = escape(f"{name} of {len(rows)} runs with 95 % intervals", quote=True)
    parts = [f'<svg viewBox="0 0 {WIDTH} {bottom + _BOTTOM}" role="img" aria-label="{described}">']
    for place, value in enumerate(values):
        anchor = {0: "start", len(values) - 1: "end"}.get(place, "middle")
        parts.append(f'<path class="grid" d="M{axis.x(value)} 0V{bottom}"/>')
        parts.append(f'<text class="tick" x="{axis.x(value)}" y="{bottom + 16}"')
        parts.append(f' text-anchor="{anchor}">{short(value)}</text>')
    base = table.baseline.numbers.get(name)
    if base is not None and not math.isnan(base.after):
        parts.append(f'<path class="baseline" d="M{axis.x(base.after)} 0V{bottom}"/>')
    parts += [_row(table, row, name, place * _ROW, axis) for place, row in enumerate(rows)]
    return "".join([*parts, "</svg>"])


class _Axis:
    """Maps values to the drawing's width."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)


def _row(table: Table, row: Row, name: str, top: float, axis: _Axis) -> str:
    number = row.numbers[name]
    colour = f"line-{table.rows.index(row) % 6}"
    label = row.label if len(row.label) <= _LETTERS else row.label[: _LETTERS - 1] + "…"
    interval = _interval(row, name)
    told = f"{row.label}: {written(name, number.after)}"
    line = ""
    if interval:
        told += f", 95 % interval {' to '.join(written(name, end) for end in interval)}"
        low, high = (axis.x(end) for end in interval)
        y = top + 29
        line = f'<path class="{colour}" d="M{low} {y}H{high}M{low} {y - 5}v10M{high} {y - 5}v10"/>'
    hollow = " hollow" if row is table.baseline else ""
    return (
        f"<g><title>{escape(told)}</title>"
        f'<text class="run" x="{_LEFT}" y="{top + 15}">{escape(label)}</text>'
        f'<text class="run" x="{WIDTH - _RIGHT}" y="{top + 15}" text-anchor="end">'
        f"{written(name, number.after)}</text>{line}"
        f'<circle class="{colour}{hollow}" cx="{axis.x(number.after)}" cy="{top + 29}" r="5"/></g>'
    )


def _ends(row: Row, name: str) -> Sequence[float]:
    return [row.numbers[name].after, *(_interval(row, name) or ())]


def _interval(row: Row, name: str) -> Interval | None:
    return row.numbers[name].intervals[1]
