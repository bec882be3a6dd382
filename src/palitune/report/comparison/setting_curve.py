"""A number over the one setting that sets runs apart, as inline SVG: a few-shot curve, a sweep."""

import math
from collections.abc import Sequence
from html import escape
from statistics import fmean

from palitune.report.comparison.compare import ComparisonRow, ComparisonTable
from palitune.report.metrics_table import format_number
from palitune.report.plots.svg import PlotArea, axis_ticks, svg_element

_MIN_SETTING_VALUES = 3
"""Values of the setting that a curve is drawn through."""
_LOG_SCALE_RATIO = 8
"""From so many times the least value on, a setting is drawn by its logarithm."""


def varied_setting(table: ComparisonTable) -> str | None:
    """Return the one numeric setting in which the runs differ, seeds aside; None: more, or none."""
    keys = [key for key in table.differing_settings if key != "seed"]
    if (
        len(keys) == 1
        and len({value for value, _ in _rows_by_setting_value(table, keys[0])})
        >= _MIN_SETTING_VALUES
    ):
        return keys[0]
    return None


def draw_setting_curve(table: ComparisonTable, name: str, key: str) -> str:
    """Draw a number of the runs that have a value of the setting; empty where too few do.

    Of several seeds the line goes through the mean; the dashed line is before training.
    """
    points = [
        (value, row)
        for value, row in _rows_by_setting_value(table, key)
        if name in row.metric_values and not math.isnan(row.metric_values[name].after)
    ]
    across = sorted({value for value, _ in points})
    if len(across) < _MIN_SETTING_VALUES:
        return ""
    as_log = across[0] > 0 and across[-1] >= _LOG_SCALE_RATIO * across[0]
    place = math.log if as_log else float
    before = _shared_before_value(table, name)
    ends = [end for _, row in points for end in _value_and_bounds(row, name)] + before
    values = axis_ticks(min(ends), max(ends), 4)
    frame = PlotArea((place(across[0]), place(across[-1])), (values[0], values[-1]))
    marked = across if as_log else axis_ticks(across[0], across[-1], 5, inside=True)
    parts = [frame.draw_axes((), values)]
    parts += [frame.draw_tick(place(value), value) for value in marked]
    if before:
        parts.append(f'<path class="baseline" d="M{frame.x(frame.x_range[0])} {frame.y(before[0])}')
        parts.append(f'H{frame.x(frame.x_range[1])}"/>')
    means = [
        (place(x), fmean(row.metric_values[name].after for value, row in points if value == x))
        for x in across
    ]
    parts.append(f'<path class="line-0" d="{frame.to_path(means)}"/>')
    parts += [_draw_point(row, name, frame, place(value)) for value, row in points]
    return svg_element(f"{name} over {key}", "".join(parts))


def _draw_point(row: ComparisonRow, name: str, frame: PlotArea, position: float) -> str:
    x, number = frame.x(position), row.metric_values[name]
    low, *_, high = (frame.y(end) for end in sorted(_value_and_bounds(row, name)))
    return (
        f"<g><title>{escape(row.label)}: {format_number(name, number.after)}</title>"
        f'<path class="line-0" d="M{x} {low}V{high}"/>'
        f'<circle class="line-0" cx="{x}" cy="{frame.y(number.after)}" r="4"/></g>'
    )


def _value_and_bounds(row: ComparisonRow, name: str) -> Sequence[float]:
    return [row.metric_values[name].after, *(row.metric_values[name].intervals[1] or ())]


def _shared_before_value(table: ComparisonTable, name: str) -> list[float]:
    """Return the number before training, if all runs began with the same."""
    keys = [f"{row.run_part.part}/{name}" for row in table.rows]
    found = {
        (row.run_part.run.metrics.get("before") or {}).get(key)
        for row, key in zip(table.rows, keys, strict=True)
    }
    return [float(value) for value in found if value is not None] if len(found) == 1 else []


def _rows_by_setting_value(table: ComparisonTable, key: str) -> list[tuple[float, ComparisonRow]]:
    """The runs that have a number for a setting, the least first."""
    found = [
        (value, row)
        for value, row in zip(table.differing_settings[key], table.rows, strict=True)
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return sorted(found, key=lambda point: point[0])
