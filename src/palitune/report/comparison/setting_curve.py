"""A metric over the one setting in which runs differ, as inline SVG."""

import math
from html import escape
from statistics import fmean

from palitune.report.comparison.compare import ComparisonRow, ComparisonTable
from palitune.report.metrics_table import format_number
from palitune.report.plots.svg import PlotArea, axis_ticks, svg_element

_MIN_SETTING_VALUES = 3
"""Minimum number of setting values for a curve."""
_LOG_SCALE_RATIO = 8
"""Ratio of largest to smallest setting value from which the axis is logarithmic."""


def varied_setting(table: ComparisonTable) -> str | None:
    """Return the only setting except the seed in which the runs differ, if it is numeric."""
    keys = [key for key in table.differing_settings if key != "seed"]
    if len(keys) != 1:
        return None
    values = {value for value, _ in _rows_by_setting_value(table, keys[0])}
    return keys[0] if len(values) >= _MIN_SETTING_VALUES else None


def draw_setting_curve(table: ComparisonTable, name: str, key: str) -> str:
    """Draw a metric over a setting; empty for too few setting values.

    The line passes through the means over runs that differ in the seed. A dashed line marks the
    value before training.
    """
    points = [
        (value, row)
        for value, row in _rows_by_setting_value(table, key)
        if name in row.metric_values and not math.isnan(row.metric_values[name].after)
    ]
    settings = sorted({value for value, _ in points})
    if len(settings) < _MIN_SETTING_VALUES:
        return ""
    is_log = settings[0] > 0 and settings[-1] >= _LOG_SCALE_RATIO * settings[0]
    scale = math.log if is_log else float
    before = _shared_before_value(table, name)
    values = [value for _, row in points for value in row.value_and_bounds(name)] + before
    y_ticks = axis_ticks(min(values), max(values), 4)
    area = PlotArea((scale(settings[0]), scale(settings[-1])), (y_ticks[0], y_ticks[-1]))
    x_ticks = settings if is_log else axis_ticks(settings[0], settings[-1], 5, inside=True)
    parts = [area.draw_axes((), y_ticks)]
    parts += [area.draw_tick(scale(value), value) for value in x_ticks]
    if before:
        parts.append(f'<path class="baseline" d="M{area.x(area.x_range[0])} {area.y(before[0])}')
        parts.append(f'H{area.x(area.x_range[1])}"/>')
    means = [
        (scale(x), fmean(row.metric_values[name].after for value, row in points if value == x))
        for x in settings
    ]
    parts.append(f'<path class="line-0" d="{area.to_path(means)}"/>')
    parts += [_draw_point(row, name, area, scale(value)) for value, row in points]
    return svg_element(f"{name} over {key}", "".join(parts))


def _draw_point(row: ComparisonRow, name: str, area: PlotArea, position: float) -> str:
    x, value = area.x(position), row.metric_values[name].after
    bounds = [area.y(bound) for bound in row.value_and_bounds(name)]
    return (
        f"<g><title>{escape(row.label)}: {format_number(name, value)}</title>"
        f'<path class="line-0" d="M{x} {max(bounds)}V{min(bounds)}"/>'
        f'<circle class="line-0" cx="{x}" cy="{area.y(value)}" r="4"/></g>'
    )


def _shared_before_value(table: ComparisonTable, name: str) -> list[float]:
    """Return the value before training if it is the same for all runs."""
    keys = [f"{row.run_part.part}/{name}" for row in table.rows]
    values = {
        (row.run_part.run.metrics.get("before") or {}).get(key)
        for row, key in zip(table.rows, keys, strict=True)
    }
    return [float(value) for value in values if value is not None] if len(values) == 1 else []


def _rows_by_setting_value(table: ComparisonTable, key: str) -> list[tuple[float, ComparisonRow]]:
    """Return the runs with a numeric value of a setting, in ascending order."""
    rows = [
        (value, row)
        for value, row in zip(table.differing_settings[key], table.rows, strict=True)
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return sorted(rows, key=lambda entry: entry[0])
