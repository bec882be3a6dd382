"""One metric of several runs as inline SVG: a point with its 95 % confidence interval per run."""

import math
from html import escape

from palitune.metrics import higher_is_better
from palitune.report.comparison.compare import ComparisonRow, ComparisonTable
from palitune.report.metrics_table import format_number
from palitune.report.plots.svg import WIDTH, axis_ticks, format_tick, svg_element
from palitune.report.text import truncate

_MARGIN, _BOTTOM, _ROW_HEIGHT = 8, 26, 40
_MAX_LABEL_LENGTH = 44
"""Characters that fit next to the value."""


def sorted_rows(table: ComparisonTable, name: str) -> list[ComparisonRow]:
    """Return the runs that have a metric, the best first, equal ones in their order."""
    rows = [row for row in table.rows if name in row.metric_values]
    defined = [row for row in rows if not math.isnan(row.metric_values[name].after)]
    best_first = higher_is_better(name)
    return sorted(defined, key=lambda row: row.metric_values[name].after, reverse=best_first)


def draw_interval_plot(table: ComparisonTable, name: str) -> str:
    """Draw a metric of a table, the best run on top; empty if no run has it.

    The colors are the CSS classes `line-0`, `line-1`, ... in the order of the table.
    """
    rows = sorted_rows(table, name)
    if not rows:
        return ""
    values = [value for row in rows for value in row.value_and_bounds(name)]
    ticks = axis_ticks(min(values), max(values), 4)
    axis = _ValueScale(ticks[0], ticks[-1])
    bottom = len(rows) * _ROW_HEIGHT + 4
    parts: list[str] = []
    for index, value in enumerate(ticks):
        anchor = {0: "start", len(ticks) - 1: "end"}.get(index, "middle")
        parts.append(f'<path class="grid" d="M{axis.x(value)} 0V{bottom}"/>')
        parts.append(f'<text class="tick" x="{axis.x(value)}" y="{bottom + 16}"')
        parts.append(f' text-anchor="{anchor}">{format_tick(value)}</text>')
    base = table.baseline.metric_values.get(name)
    if base is not None and not math.isnan(base.after):
        parts.append(f'<path class="baseline" d="M{axis.x(base.after)} 0V{bottom}"/>')
    parts += [
        _draw_row(table, row, name, index * _ROW_HEIGHT, axis) for index, row in enumerate(rows)
    ]
    label = f"{name} of {len(rows)} runs with 95 % confidence intervals"
    return svg_element(label, "".join(parts), height=bottom + _BOTTOM)


class _ValueScale:
    """Mapping from values to the width of the drawing."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(_MARGIN + share * (WIDTH - 2 * _MARGIN), 1)


def _draw_row(
    table: ComparisonTable, row: ComparisonRow, name: str, top: float, axis: _ValueScale
) -> str:
    """Draw one run.

    Args:
        table: Table of the run, for its color.
        row: The run.
        name: Metric.
        top: Vertical position in pixels.
        axis: Mapping of the values.
    """
    metric = row.metric_values[name]
    color = f"line-{table.rows.index(row) % 6}"
    text = format_number(name, metric.after)
    tooltip, line, y = f"{row.label}: {text}", "", top + 29
    if interval := metric.intervals[1]:
        bounds = " to ".join(format_number(name, end) for end in interval)
        tooltip += f", 95 % confidence interval {bounds}"
        low, high = (axis.x(end) for end in interval)
        line = f'<path class="{color}" d="M{low} {y}H{high}M{low} {y - 5}v10M{high} {y - 5}v10"/>'
    hollow = " hollow" if row is table.baseline else ""
    return (
        f"<g><title>{escape(tooltip)}</title>"
        f'<text class="run" x="{_MARGIN}" y="{top + 15}">'
        f"{escape(truncate(row.label, _MAX_LABEL_LENGTH))}</text>"
        f'<text class="run" x="{WIDTH - _MARGIN}" y="{top + 15}" text-anchor="end">{text}</text>'
        f"{line}"
        f'<circle class="{color}{hollow}" cx="{axis.x(metric.after)}" cy="{y}" r="5"/></g>'
    )
