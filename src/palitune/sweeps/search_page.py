"""The page of a search: which settings gave what, as one file without network or script."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from palitune.config.search_space import Categorical, Domain, NumericRange
from palitune.metrics import higher_is_better
from palitune.report.plots.svg import (
    WIDTH,
    PlotArea,
    axis_ticks,
    format_tick,
    svg_element,
    svg_text,
)
from palitune.report.templates import render_template

PAGE_FILE = "search.html"
_AXIS_SPACING, _TOP, _AXIS_HEIGHT, _LEFT = 150, 34, 230, 16
"""Pixels between two axes of settings, above them, of them, and left of the first one."""
_MAX_LABEL_LENGTH = 19
_ROW_HEIGHT = 34


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A trial: its settings, and what came of it."""

    number: int
    folder: str
    state: str
    error: str
    value: float | None
    """None where it failed or has not ended."""
    params: Mapping[str, Any]


@dataclass(frozen=True)
class _ParameterAxis:
    name: str
    domain: Domain

    def y(self, value: Any) -> float:
        if isinstance(self.domain, Categorical):
            return _axis_y(self.domain.values.index(value) / max(1, len(self.domain.values) - 1))
        place = math.log if self.domain.log else float
        low, high = place(self.domain.low), place(self.domain.high)
        return _axis_y((place(value) - low) / (high - low))

    def tick_labels(self) -> list[tuple[float, str]]:
        """Where its line is labelled, and how."""
        if isinstance(self.domain, Categorical):
            return [(self.y(value), format_setting(value)) for value in self.domain.values]
        low, high = self.domain.low, self.domain.high
        if self.domain.log:
            between = [10.0**n for n in range(math.ceil(math.log10(low)), 309) if 10.0**n <= high]
            values = sorted({low, high, *(v for v in between if 1.3 * low < v < high / 1.3)})
        else:
            values = axis_ticks(low, high, 5, inside=True)
        return [(self.y(value), format_tick(value)) for value in values]


def _axis_y(share: float) -> float:
    return round(_TOP + (1 - share) * _AXIS_HEIGHT, 1)


def format_setting(value: Any) -> str:
    """Write a value of a setting briefly: a list without its brackets."""
    return format_tick(value) if isinstance(value, int | float) else str(value).strip("[]'\"")


def best_trial(trials: Sequence[TrialResult], metric: str) -> TrialResult | None:
    """Return the trial with the best number, the first of equals; None where none has one."""
    return next(iter(rank_trials(trials, metric)), None)


def rank_trials(trials: Sequence[TrialResult], metric: str) -> list[TrialResult]:
    """The trials that have a number, the best first."""
    sign = -1 if higher_is_better(metric) else 1
    return sorted(
        (trial for trial in trials if trial.value is not None),
        key=lambda trial: sign * (trial.value or 0.0),
    )


def write_search_page(
    folder: Path,
    metric: str,
    space: Mapping[str, Domain],
    trials: Sequence[TrialResult],
    importances: Mapping[str, float],
    num_trials: int,
) -> Path:
    """Write `search.html` and return its path; `count` trials were asked for."""
    from markupsafe import Markup

    known = rank_trials(trials, metric)
    plots = []
    if known:
        history = "each trial, and the best so far"
        plots.append((metric, history, Markup(_history_plot(metric, known))))
    if importances:
        plots.append(("what mattered", "share of 1", Markup(_importance_plot(importances))))
    content = {
        "name": folder.absolute().name,
        "metric": metric,
        "direction": "higher" if higher_is_better(metric) else "lower",
        "keys": list(space),
        "labels": _short_names(list(space)),
        "known": known,
        "others": [trial for trial in trials if trial.value is None],
        "count": num_trials,
        "lines": Markup(_parallel_coordinates(metric, space, known)) if known else "",
        "plots": plots,
        "shown": format_setting,
        "short": format_tick,
    }
    page = folder / PAGE_FILE
    text_of_page = render_template(
        "search.html", content, ("page.css", "comparison.css", "search.css")
    )
    page.write_bytes(text_of_page.encode("utf-8", "replace"))
    return page


def _short_names(keys: Sequence[str]) -> list[str]:
    """Name settings by their last word where that tells them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return last if len(set(last)) == len(last) else list(keys)


def _parallel_coordinates(
    metric: str, space: Mapping[str, Domain], trials: Sequence[TrialResult]
) -> str:
    """Draw a line per trial through the values of its settings to its number."""
    values = [trial.value or 0.0 for trial in trials]
    scale = axis_ticks(min(values), max(values), 4)
    names = [*_short_names([*space]), metric]
    domains = [*space.values(), NumericRange(scale[0], scale[-1])]
    axes = [_ParameterAxis(name, domain) for name, domain in zip(names, domains, strict=True)]
    width, height = _LEFT + len(axes) * _AXIS_SPACING, _TOP + _AXIS_HEIGHT + 20
    told = escape(f"{len(trials)} trials: settings and {metric}", quote=True)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" style="min-width:{width}px" role="img"'
        f' aria-label="{told}">'
    ]
    for place, trial in reversed(list(enumerate(trials))):  # the best lies on top
        points = [*trial.params.values(), trial.value]
        pairs = zip(axes, points, strict=True)
        path = "L".join(f"{_axis_x(n)} {axis.y(value)}" for n, (axis, value) in enumerate(pairs))
        share = round(100 * (1 - place / max(1, len(trials) - 1)))
        said = ", ".join(f"{key}={format_setting(value)}" for key, value in trial.params.items())
        parts.append(
            f'<g class="trial{" best" if place == 0 else ""}" style="--share:{share}%">'
            f"<title>trial {trial.number}: {format_tick(trial.value or 0.0)} ({escape(said)})</title>"
            f'<path d="M{path}"/></g>'
        )
    for place, axis in enumerate(axes):
        parts.append(f'<path class="axis" d="M{_axis_x(place)} {_TOP}V{_TOP + _AXIS_HEIGHT}"/>')
        parts.append(
            f'<text class="run" x="{_axis_x(place) - 6}" y="18">{escape(_truncate(axis.name))}</text>'
        )
        parts += [
            f'<text class="run mark" x="{_axis_x(place) + 6}" y="{y + 4:g}">{escape(_truncate(mark))}</text>'
            for y, mark in axis.tick_labels()
        ]
    return "".join([*parts, "</svg>"])


def _axis_x(index: int) -> int:
    return _LEFT + index * _AXIS_SPACING


def _truncate(name: str) -> str:
    return name if len(name) <= _MAX_LABEL_LENGTH else name[: _MAX_LABEL_LENGTH - 1] + "…"


def _history_plot(metric: str, trials: Sequence[TrialResult]) -> str:
    """Draw the number of every trial, and the best that was known after it."""
    by_number = sorted(trials, key=lambda trial: trial.number)
    points = [(float(trial.number), trial.value or 0.0) for trial in by_number]
    values = axis_ticks(min(v for _, v in points), max(v for _, v in points), 4)
    across = (points[0][0], points[-1][0])
    frame = PlotArea(across, (values[0], values[-1]))
    better = max if higher_is_better(metric) else min
    line, record = "", points[0][1]
    for number, value in points:
        record = better(record, value)
        line += f"H{frame.x(number)}V{frame.y(record)}"
    start = f"M{frame.x(points[0][0])} {frame.y(points[0][1])}"
    dots = [
        f"<g><title>trial {number:g}: {format_tick(value)}</title>"
        f'<circle class="line-1" cx="{frame.x(number)}" cy="{frame.y(value)}" r="4"/></g>'
        for number, value in points
    ]
    marked = [value for value in axis_ticks(*across, 5, inside=True) if value % 1 == 0]
    content = [frame.draw_axes(marked, values), f'<path class="line-0" d="{start}{line}"/>', *dots]
    return svg_element(f"{metric} by trial", "".join(content))


def _importance_plot(importances: Mapping[str, float]) -> str:
    rows = sorted(importances.items(), key=lambda pair: -pair[1])
    labels = dict(zip(importances, _short_names([*importances]), strict=True))
    told = "How much each setting mattered"
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {len(rows) * _ROW_HEIGHT}" role="img" aria-label="{told}">'
    ]
    for place, (key, share) in enumerate(rows):
        top = place * _ROW_HEIGHT
        parts.append(
            f'<text class="run" x="0" y="{top + 15}">{escape(labels[key])}</text>'
            f"{svg_text(WIDTH, top + 15, f'{share:.2f}', 'end')}"
            f'<rect class="bar" x="0" y="{top + 20}" width="{round(share * WIDTH, 1)}" height="7"/>'
        )
    return "".join([*parts, "</svg>"])
