"""What every plot is drawn with: a frame, its axes, round ticks, as inline SVG."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 380, 210
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 50, 10, 12, 30
"""Pixels of the drawing around the frame."""

_FLAT_RANGE = 1e-12
"""A range that is smaller than this share of its numbers, or of 1, is drawn as a flat line."""


@dataclass(frozen=True)
class PlotArea:
    """Maps values to the drawing's coordinates."""

    x_range: Point
    """Least and largest horizontal value."""
    y_range: Point
    """Least and largest vertical value."""

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

    def draw_axes(self, x_ticks: Iterable[float], y_ticks: Iterable[float]) -> str:
        """Draw lines at the vertical ticks, and write both axes' ticks."""
        parts: list[str] = []
        for value in y_ticks:
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{MARGIN_LEFT} {y}H{WIDTH - MARGIN_RIGHT}"/>')
            parts.append(svg_text(MARGIN_LEFT - 6, y + 4, format_tick(value), "end"))
        parts += [self.draw_tick(value, value) for value in x_ticks]
        return "".join(parts)

    def draw_tick(self, position: float, value: float) -> str:
        """Write a value below the horizontal place `at`, within the drawing."""
        x = self.x(position)
        return svg_text(
            x, HEIGHT - 10, format_tick(value), "end" if x > WIDTH - 2 * MARGIN_RIGHT else "middle"
        )


def svg_element(label: str, content: str) -> str:
    """Put content into an `<svg>` element that says what it shows."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{content}</svg>"
    )


def svg_text(x: float, y: float, content: str, anchor: str = "middle") -> str:
    return f'<text class="tick" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(content)}</text>'


def axis_ticks(low: float, high: float, num_ticks: int, *, inside: bool = False) -> list[float]:
    """Choose round values that cover [low, high], or lie `inside` it, about so many."""
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


def format_tick(value: float) -> str:
    """Write a tick in few characters: 12k, 0.25, 2e-5."""
    if abs(value) >= 1e4:
        return f"{value / 1e3:g}k" if abs(value) < 1e6 else f"{value / 1e6:g}M"
    if 0 < abs(value) < 1e-3:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.4g}"
