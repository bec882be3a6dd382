"""What every plot is drawn with: a frame, its axes, round ticks, as inline SVG."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

WIDTH, HEIGHT = 380, 210
LEFT, RIGHT, TOP, BOTTOM = 50, 10, 12, 30
"""Pixels of the drawing around the frame."""

_FLAT = 1e-12
"""A range that is smaller than this share of its numbers, or of 1, is drawn as a flat line."""


@dataclass(frozen=True)
class Frame:
    """Maps values to the drawing's coordinates."""

    across: Point
    """Least and largest horizontal value."""
    up: Point
    """Least and largest vertical value."""

    def x(self, value: float) -> float:
        low, high = self.across
        share = (value - low) / (high - low) if high > low else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.up
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def path(self, points: Iterable[Point]) -> str:
        return "M" + "L".join(f"{self.x(x)} {self.y(y)}" for x, y in points)

    def axes(self, across: Iterable[float], up: Iterable[float]) -> str:
        """Draw lines at the vertical ticks, and write both axes' ticks."""
        parts: list[str] = []
        for value in up:
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
            parts.append(text(LEFT - 6, y + 4, short(value), "end"))
        parts += [self.tick(value, value) for value in across]
        return "".join(parts)

    def tick(self, at: float, value: float) -> str:
        """Write a value below the horizontal place `at`, within the drawing."""
        x = self.x(at)
        return text(x, HEIGHT - 10, short(value), "end" if x > WIDTH - 2 * RIGHT else "middle")


def drawing(label: str, content: str) -> str:
    """Put content into an `<svg>` element that says what it shows."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{content}</svg>"
    )


def text(x: float, y: float, written: str, anchor: str = "middle") -> str:
    return f'<text class="tick" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(written)}</text>'


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
