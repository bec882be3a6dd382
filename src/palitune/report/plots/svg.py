"""Building blocks of inline SVG plots: plot area, axes, round ticks."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 380, 228
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 62, 10, 12, 48
"""Pixels around the plot area."""
SHARE_TICKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Ticks of an axis from 0 to 1."""

_FLAT_RANGE = 1e-12
"""Range, relative to its values or to 1, below which the values are drawn as a flat line."""


@dataclass(frozen=True)
class PlotArea:
    """Mapping from values to coordinates of the drawing."""

    x_range: Point
    """Minimum and maximum horizontal value."""
    y_range: Point
    """Minimum and maximum vertical value."""

    def x(self, value: float) -> float:
        low, high = self.x_range
        share = (value - low) / (high - low) if high > low else 0.5
        return round(MARGIN_LEFT + share * (WIDTH - MARGIN_LEFT - MARGIN_RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return round(
            HEIGHT
            - MARGIN_BOTTOM
            - (value - low) / (high - low) * (HEIGHT - MARGIN_TOP - MARGIN_BOTTOM),
            1,
        )

    def to_path(self, points: Iterable[Point]) -> str:
        return "M" + "L".join(f"{self.x(x)} {self.y(y)}" for x, y in points)

    def draw_axes(
        self,
        x_ticks: Iterable[float],
        y_ticks: Iterable[float],
        x_title: str = "",
        y_title: str = "",
    ) -> str:
        """Draw ticks and titles of both axes, and grid lines at the vertical ticks."""
        middle = (MARGIN_TOP + HEIGHT - MARGIN_BOTTOM) / 2
        parts = [svg_text((MARGIN_LEFT + WIDTH) / 2, HEIGHT - 7, x_title)] if x_title else []
        if y_title:
            parts.append(
                f'<text class="tick" transform="translate(13 {middle:g}) rotate(-90)" '
                f'text-anchor="middle">{escape(y_title)}</text>'
            )
        for value in y_ticks:
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{MARGIN_LEFT} {y}H{WIDTH - MARGIN_RIGHT}"/>')
            parts.append(svg_text(MARGIN_LEFT - 6, y + 4, format_tick(value), "end"))
        parts += [self.draw_tick(value, value) for value in x_ticks]
        return "".join(parts)

    def draw_tick(self, position: float, value: float) -> str:
        """Draw a tick label below a horizontal position, inside the drawing."""
        x = self.x(position)
        return svg_text(
            x, HEIGHT - 28, format_tick(value), "end" if x > WIDTH - 2 * MARGIN_RIGHT else "middle"
        )


def svg_element(
    label: str,
    content: str,
    width: int = WIDTH,
    height: int = HEIGHT,
    style: str = "",
    x_range: Point | None = None,
) -> str:
    """Return an `<svg>` element.

    Args:
        label: Its description for screen readers.
        content: Its elements.
        width: Width in pixels of its coordinates.
        height: Height in pixels.
        style: CSS of the element.
        x_range: Horizontal values at the edges of the plot area, to show values at the pointer.
    """
    css = f' style="{style}"' if style else ""
    if x_range:
        css += f' data-low="{x_range[0]:.6g}" data-high="{x_range[1]:.6g}"'
    return (
        f'<svg viewBox="0 0 {width} {height}"{css} role="img" aria-label="{escape(label)}">'
        f"{content}</svg>"
    )


def svg_text(x: float, y: float, content: str, anchor: str = "middle") -> str:
    return f'<text class="tick" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(content)}</text>'


def axis_ticks(low: float, high: float, num_ticks: int, *, inside: bool = False) -> list[float]:
    """Return about `num_ticks` round values that cover [low, high], or lie inside it."""
    size = max(abs(low), abs(high), 1.0)
    if high - low <= _FLAT_RANGE * size:
        margin = 0.5 * abs(low) if abs(low) > _FLAT_RANGE else 0.5
        return [low] if inside else [low - margin, low + margin]
    raw = (high - low) / num_ticks
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= raw * (1 - 1e-9))
    first, last = low / step, high / step
    start = math.ceil(first - 1e-9) if inside else math.floor(first + 1e-9)
    end = math.floor(last + 1e-9) if inside else math.ceil(last - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(start, end + 1)]


def points_to_csv(x_name: str, lines: Mapping[str, Sequence[Point]]) -> str:
    """Return the points of lines as CSV with a column per line; no value is an empty cell."""
    columns = [{x: y for x, y in points if math.isfinite(y)} for points in lines.values()]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([x_name, *lines])
    for x in sorted({x for column in columns for x in column}):
        values = (f"{column[x]:.5g}" if x in column else "" for column in columns)
        writer.writerow([f"{x:.6g}", *values])
    return file.getvalue()


def format_tick(value: float) -> str:
    """Format a tick in few characters: 12k, 0.25, 2e-5."""
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k" if abs(value) < 1e6 else f"{value / 1e6:g}M"
    if 0 < abs(value) < 1e-3:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.4g}"
