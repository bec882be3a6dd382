"""The page of a search: which settings gave what, as one file without network or script."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from palitune.metrics import higher_is_better
from palitune.report.svg import WIDTH, Frame, drawing, short, text, ticks
from palitune.report.templates import render
from palitune.search import Choice, Domain, Interval

FILE = "search.html"
_BETWEEN, _TOP, _TALL, _LEFT = 150, 34, 230, 16
"""Pixels between two axes of settings, above them, of them, and left of the first one."""
_LETTERS = 19
_ROW = 34


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A trial: its settings, and what came of it."""

    number: int
    folder: str
    state: str
    said: str
    value: float | None
    """None where it failed or has not ended."""
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class _Axis:
    name: str
    domain: Domain

    def y(self, value: Any) -> float:
        if isinstance(self.domain, Choice):
            return _down(self.domain.values.index(value) / max(1, len(self.domain.values) - 1))
        place = math.log if self.domain.log else float
        low, high = place(self.domain.low), place(self.domain.high)
        return _down((place(value) - low) / (high - low))

    def marks(self) -> list[tuple[float, str]]:
        """Where its line is labelled, and how."""
        if isinstance(self.domain, Choice):
            return [(self.y(value), shown(value)) for value in self.domain.values]
        low, high = self.domain.low, self.domain.high
        if self.domain.log:
            between = [10.0**n for n in range(math.ceil(math.log10(low)), 309) if 10.0**n <= high]
            values = sorted({low, high, *(v for v in between if 1.3 * low < v < high / 1.3)})
        else:
            values = ticks(low, high, 5, inside=True)
        return [(self.y(value), short(value)) for value in values]


def _down(share: float) -> float:
    return round(_TOP + (1 - share) * _TALL, 1)


def shown(value: Any) -> str:
    """Write a value of a setting briefly: a list without its brackets."""
    return short(value) if isinstance(value, int | float) else str(value).strip("[]'\"")


def best(tried: Sequence[Tried], metric: str) -> Tried | None:
    """Return the trial with the best number, the first of equals; None where none has one."""
    return next(iter(ranked(tried, metric)), None)


def ranked(tried: Sequence[Tried], metric: str) -> list[Tried]:
    """The trials that have a number, the best first."""
    sign = -1 if higher_is_better(metric) else 1
    return sorted(
        (trial for trial in tried if trial.value is not None),
        key=lambda trial: sign * (trial.value or 0.0),
    )


def write(
    folder: Path,
    metric: str,
    space: Mapping[str, Domain],
    tried: Sequence[Tried],
    importances: Mapping[str, float],
    count: int,
) -> Path:
    """Write `search.html` and return its path; `count` trials were asked for."""
    from markupsafe import Markup

    known = ranked(tried, metric)
    plots = []
    if known:
        history = "each trial, and the best so far"
        plots.append((metric, history, Markup(_history(metric, known))))
    if importances:
        plots.append(("what mattered", "share of 1", Markup(_bars(importances))))
    content = {
        "name": folder.absolute().name,
        "metric": metric,
        "direction": "higher" if higher_is_better(metric) else "lower",
        "keys": list(space),
        "labels": _labels(list(space)),
        "known": known,
        "others": [trial for trial in tried if trial.value is None],
        "count": count,
        "lines": Markup(_parallel(metric, space, known)) if known else "",
        "plots": plots,
        "shown": shown,
        "short": short,
    }
    page = folder / FILE
    text_of_page = render("search.html", content, ("page.css", "comparison.css", "search.css"))
    page.write_bytes(text_of_page.encode("utf-8", "replace"))
    return page


def _labels(keys: Sequence[str]) -> list[str]:
    """Name settings by their last word where that tells them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return last if len(set(last)) == len(last) else list(keys)


def _parallel(metric: str, space: Mapping[str, Domain], known: Sequence[Tried]) -> str:
    """Draw a line per trial through the values of its settings to its number."""
    values = [trial.value or 0.0 for trial in known]
    scale = ticks(min(values), max(values), 4)
    names = [*_labels([*space]), metric]
    domains = [*space.values(), Interval(scale[0], scale[-1])]
    axes = [_Axis(name, domain) for name, domain in zip(names, domains, strict=True)]
    width, height = _LEFT + len(axes) * _BETWEEN, _TOP + _TALL + 20
    told = escape(f"{len(known)} trials: settings and {metric}", quote=True)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" style="min-width:{width}px" role="img"'
        f' aria-label="{told}">'
    ]
    for place, trial in reversed(list(enumerate(known))):  # the best lies on top
        points = [*trial.settings.values(), trial.value]
        pairs = zip(axes, points, strict=True)
        path = "L".join(f"{_x(n)} {axis.y(value)}" for n, (axis, value) in enumerate(pairs))
        share = round(100 * (1 - place / max(1, len(known) - 1)))
        said = ", ".join(f"{key}={shown(value)}" for key, value in trial.settings.items())
        parts.append(
            f'<g class="trial{" best" if place == 0 else ""}" style="--share:{share}%">'
            f"<title>trial {trial.number}: {short(trial.value or 0.0)} ({escape(said)})</title>"
            f'<path d="M{path}"/></g>'
        )
    for place, axis in enumerate(axes):
        parts.append(f'<path class="axis" d="M{_x(place)} {_TOP}V{_TOP + _TALL}"/>')
        parts.append(
            f'<text class="run" x="{_x(place) - 6}" y="18">{escape(_cut(axis.name))}</text>'
        )
        parts += [
            f'<text class="run mark" x="{_x(place) + 6}" y="{y + 4:g}">{escape(_cut(mark))}</text>'
            for y, mark in axis.marks()
        ]
    return "".join([*parts, "</svg>"])


def _x(place: int) -> int:
    return _LEFT + place * _BETWEEN


def _cut(name: str) -> str:
    return name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"


def _history(metric: str, known: Sequence[Tried]) -> str:
    """Draw the number of every trial, and the best that was known after it."""
    by_number = sorted(known, key=lambda trial: trial.number)
    points = [(float(trial.number), trial.value or 0.0) for trial in by_number]
    values = ticks(min(v for _, v in points), max(v for _, v in points), 4)
    across = (points[0][0], points[-1][0])
    frame = Frame(across, (values[0], values[-1]))
    better = max if higher_is_better(metric) else min
    line, record = "", points[0][1]
    for number, value in points:
        record = better(record, value)
        line += f"H{frame.x(number)}V{frame.y(record)}"
    start = f"M{frame.x(points[0][0])} {frame.y(points[0][1])}"
    dots = [
        f"<g><title>trial {number:g}: {short(value)}</title>"
        f'<circle class="line-1" cx="{frame.x(number)}" cy="{frame.y(value)}" r="4"/></g>'
        for number, value in points
    ]
    marked = [value for value in ticks(*across, 5, inside=True) if value % 1 == 0]
    content = [frame.axes(marked, values), f'<path class="line-0" d="{start}{line}"/>', *dots]
    return drawing(f"{metric} by trial", "".join(content))


def _bars(importances: Mapping[str, float]) -> str:
    rows = sorted(importances.items(), key=lambda pair: -pair[1])
    labels = dict(zip(importances, _labels([*importances]), strict=True))
    told = "How much each setting mattered"
    parts = [f'<svg viewBox="0 0 {WIDTH} {len(rows) * _ROW}" role="img" aria-label="{told}">']
    for place, (key, share) in enumerate(rows):
        top = place * _ROW
        parts.append(
            f'<text class="run" x="0" y="{top + 15}">{escape(labels[key])}</text>'
            f"{text(WIDTH, top + 15, f'{share:.2f}', 'end')}"
            f'<rect class="bar" x="0" y="{top + 20}" width="{round(share * WIDTH, 1)}" height="7"/>'
        )
    return "".join([*parts, "</svg>"])
