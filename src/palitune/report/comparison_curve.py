"""A number over the one setting that sets runs apart, as inline SVG: a few-shot curve, a sweep."""

import math
from collections.abc import Sequence
from html import escape
from statistics import fmean

from palitune.report.comparison import Row, Table
from palitune.report.summary import written
from palitune.report.svg import Frame, drawing, ticks

_FEWEST = 3
"""Values of the setting that a curve is drawn through."""
_WIDE = 8
"""From so many times the least value on, a setting is drawn by its logarithm."""


def setting(table: Table) -> str | None:
    """Return the one numeric setting in which the runs differ, seeds aside; None: more, or none."""
    keys = [key for key in table.differing if key != "seed"]
    if len(keys) == 1 and len({value for value, _ in _by_value(table, keys[0])}) >= _FEWEST:
        return keys[0]
    return None


def svg(table: Table, name: str, key: str) -> str:
    """Draw a number of the runs that have a value of the setting; empty where too few do.

    Of several seeds the line goes through the mean; the dashed line is before training.
    """
    points = [
        (value, row)
        for value, row in _by_value(table, key)
        if name in row.numbers and not math.isnan(row.numbers[name].after)
    ]
    across = sorted({value for value, _ in points})
    if len(across) < _FEWEST:
        return ""
    as_log = across[0] > 0 and across[-1] >= _WIDE * across[0]
    place = math.log if as_log else float
    before = _before(table, name)
    ends = [end for _, row in points for end in _ends(row, name)] + before
    values = ticks(min(ends), max(ends), 4)
    frame = Frame((place(across[0]), place(across[-1])), (values[0], values[-1]))
    marked = across if as_log else ticks(across[0], across[-1], 5, inside=True)
    parts = [frame.axes((), values)]
    parts += [frame.tick(place(value), value) for value in marked]
    if before:
        parts.append(f'<path class="baseline" d="M{frame.x(frame.across[0])} {frame.y(before[0])}')
        parts.append(f'H{frame.x(frame.across[1])}"/>')
    means = [
        (place(x), fmean(row.numbers[name].after for value, row in points if value == x))
        for x in across
    ]
    parts.append(f'<path class="line-0" d="{frame.path(means)}"/>')
    parts += [_point(row, name, frame, place(value)) for value, row in points]
    return drawing(f"{name} over {key}", "".join(parts))


def _point(row: Row, name: str, frame: Frame, at: float) -> str:
    x, number = frame.x(at), row.numbers[name]
    low, *_, high = (frame.y(end) for end in sorted(_ends(row, name)))
    return (
        f"<g><title>{escape(row.label)}: {written(name, number.after)}</title>"
        f'<path class="line-0" d="M{x} {low}V{high}"/>'
        f'<circle class="line-0" cx="{x}" cy="{frame.y(number.after)}" r="4"/></g>'
    )


def _ends(row: Row, name: str) -> Sequence[float]:
    return [row.numbers[name].after, *(row.numbers[name].intervals[1] or ())]


def _before(table: Table, name: str) -> list[float]:
    """Return the number before training, if all runs began with the same."""
    keys = [f"{row.entry.part}/{name}" for row in table.rows]
    found = {
        (row.entry.run.metrics.get("before") or {}).get(key)
        for row, key in zip(table.rows, keys, strict=True)
    }
    return [float(value) for value in found if value is not None] if len(found) == 1 else []


def _by_value(table: Table, key: str) -> list[tuple[float, Row]]:
    """The runs that have a number for a setting, the least first."""
    found = [
        (value, row)
        for value, row in zip(table.differing[key], table.rows, strict=True)
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    return sorted(found, key=lambda point: point[0])
