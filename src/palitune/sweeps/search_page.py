"""HTML page of a hyperparameter search: settings, metric and importance of every trial."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from palitune.config.search_space import Categorical, Domain, NumericRange
from palitune.metrics import higher_is_better
from palitune.report.metric_descriptions import define_value
from palitune.report.plots.svg import (
    WIDTH,
    PlotArea,
    axis_ticks,
    format_tick,
    svg_element,
    svg_text,
)
from palitune.report.rendering import write_page
from palitune.report.text import truncate

PAGE_FILE = "search.html"
_AXIS_SPACING, _TOP, _AXIS_HEIGHT, _LEFT = 150, 34, 230, 16
"""Pixels between two parallel axes, above them, their height, and left of the first one."""
_MAX_LABEL_LENGTH = 19
_ROW_HEIGHT = 34


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """Settings and result of a trial."""

    number: int
    folder: str
    state: str
    error: str
    value: float | None
    """Value of the metric; None if the trial failed or is not finished."""
    params: Mapping[str, Any]


@dataclass(frozen=True)
class _ParameterAxis:
    name: str
    domain: Domain

    def y(self, value: Any) -> float:
        if isinstance(self.domain, Categorical):
            return _axis_y(self.domain.values.index(value) / max(1, len(self.domain.values) - 1))
        scale = math.log if self.domain.log else float
        low, high = scale(self.domain.low), scale(self.domain.high)
        return _axis_y((scale(value) - low) / (high - low))

    def tick_labels(self) -> list[tuple[float, str]]:
        """Return (vertical position, label) of every tick."""
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
    """Format the value of a setting, a list without brackets."""
    return format_tick(value) if isinstance(value, int | float) else str(value).strip("[]'\"")


def best_trial(trials: Sequence[TrialResult], metric: str) -> TrialResult | None:
    """Return the trial with the best metric, the first of equal ones; None without a metric."""
    return next(iter(rank_trials(trials, metric)), None)


def rank_trials(trials: Sequence[TrialResult], metric: str) -> list[TrialResult]:
    """Return the trials with a metric, the best first."""
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
    """Write `search.html` and return its path.

    Args:
        folder: Folder of the search.
        metric: Metric that is optimized.
        space: Domain of every searched setting.
        trials: The trials so far.
        importances: Importance of every setting, with the sum 1; empty: unknown.
        num_trials: Number of planned trials.
    """
    from markupsafe import Markup

    ranked = rank_trials(trials, metric)
    plots = []
    facts = [("trials with a metric", f"{len(ranked)} of {num_trials}")]
    if ranked:
        direction = "higher" if higher_is_better(metric) else "lower"
        best = f"{format_tick(ranked[0].value or 0.0)}, trial {ranked[0].number}"
        facts.insert(0, (f"best ({direction} is better)", best))
        plots.append(
            (metric, "each trial, and the best so far", Markup(_history_plot(metric, ranked)))
        )
    if importances:
        plots.append(("importance", "share of 1", Markup(_importance_plot(importances))))
    definition = define_value(metric.rpartition("/")[2])
    content = {
        "title": f"Search: {metric}",
        "facts": facts,
        "metric": metric,
        "definitions": {metric: definition} if definition else {},
        "keys": list(space),
        "labels": _short_names(list(space)),
        "ranked": ranked,
        "others": [trial for trial in trials if trial.value is None],
        "lines": Markup(_parallel_coordinates(metric, space, ranked)) if ranked else "",
        "plots": plots,
        "format_setting": format_setting,
        "format_value": format_tick,
    }
    styles = ("comparison.css", "search.css")
    return write_page(folder / PAGE_FILE, "search.html", content, styles=styles)


def _short_names(keys: Sequence[str]) -> list[str]:
    """Return the last word of each key if all of them differ, else the keys."""
    last = [key.rpartition(".")[2] for key in keys]
    return last if len(set(last)) == len(last) else list(keys)


def _parallel_coordinates(
    metric: str, space: Mapping[str, Domain], trials: Sequence[TrialResult]
) -> str:
    """Draw a line per trial through the values of its settings and its metric.

    Args:
        metric: Name of the metric, the last axis.
        space: Domain of every setting, an axis each.
        trials: Trials with a metric, the best first.
    """
    values = [trial.value or 0.0 for trial in trials]
    ticks = axis_ticks(min(values), max(values), 4)
    names = [*_short_names([*space]), metric]
    domains = [*space.values(), NumericRange(ticks[0], ticks[-1])]
    axes = [_ParameterAxis(name, domain) for name, domain in zip(names, domains, strict=True)]
    parts = [  # the best one is drawn last, on top
        _draw_trial(trial, axes, rank, 1 - rank / max(1, len(trials) - 1))
        for rank, trial in reversed(list(enumerate(trials)))
    ]
    for index, axis in enumerate(axes):
        x = _axis_x(index)
        parts.append(f'<path class="axis" d="M{x} {_TOP}V{_TOP + _AXIS_HEIGHT}"/>')
        parts.append(_label("run", x - 6, 18, axis.name))
        parts += [_label("run mark", x + 6, y + 4, tick) for y, tick in axis.tick_labels()]
    width, height = _axis_x(len(axes)), _TOP + _AXIS_HEIGHT + 20
    label = f"{len(trials)} trials: settings and {metric}"
    return svg_element(label, "".join(parts), width, height, style=f"min-width:{width}px")


def _draw_trial(trial: TrialResult, axes: Sequence[_ParameterAxis], rank: int, share: float) -> str:
    """Draw the line of a trial.

    Args:
        trial: The trial.
        axes: Axes of settings and metric.
        rank: Rank of the trial; 0 is the best one.
        share: Strength of the color, in [0, 1].
    """
    points = zip(axes, [*trial.params.values(), trial.value], strict=True)
    path = "L".join(f"{_axis_x(n)} {axis.y(value)}" for n, (axis, value) in enumerate(points))
    settings = ", ".join(f"{key}={format_setting(value)}" for key, value in trial.params.items())
    tooltip = f"trial {trial.number}: {format_tick(trial.value or 0.0)} ({settings})"
    return (
        f'<g class="trial{"" if rank else " best"}" style="--share:{round(100 * share)}%">'
        f'<title>{escape(tooltip)}</title><path d="M{path}"/></g>'
    )


def _label(style: str, x: float, y: float, text: str) -> str:
    content = escape(truncate(text, _MAX_LABEL_LENGTH))
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{content}</text>'


def _axis_x(index: int) -> int:
    return _LEFT + index * _AXIS_SPACING


def _history_plot(metric: str, trials: Sequence[TrialResult]) -> str:
    """Draw the metric of every trial, and the best value so far."""
    by_number = sorted(trials, key=lambda trial: trial.number)
    points = [(float(trial.number), trial.value or 0.0) for trial in by_number]
    y_ticks = axis_ticks(min(v for _, v in points), max(v for _, v in points), 4)
    x_range = (points[0][0], points[-1][0])
    area = PlotArea(x_range, (y_ticks[0], y_ticks[-1]))
    better = max if higher_is_better(metric) else min
    line, best = "", points[0][1]
    for number, value in points:
        best = better(best, value)
        line += f"H{area.x(number)}V{area.y(best)}"
    start = f"M{area.x(points[0][0])} {area.y(points[0][1])}"
    dots = [
        f"<g><title>trial {number:g}: {format_tick(value)}</title>"
        f'<circle class="line-1" cx="{area.x(number)}" cy="{area.y(value)}" r="4"/></g>'
        for number, value in points
    ]
    x_ticks = [value for value in axis_ticks(*x_range, 5, inside=True) if value % 1 == 0]
    content = [
        area.draw_axes(x_ticks, y_ticks, "trial", metric),
        f'<path class="line-0" d="{start}{line}"/>',
        *dots,
    ]
    return svg_element(f"{metric} by trial", "".join(content))


def _importance_plot(importances: Mapping[str, float]) -> str:
    rows = sorted(importances.items(), key=lambda pair: -pair[1])
    labels = dict(zip(importances, _short_names([*importances]), strict=True))
    parts = [
        f'<text class="run" x="0" y="{top + 15}">{escape(labels[key])}</text>'
        f"{svg_text(WIDTH, top + 15, f'{share:.2f}', 'end')}"
        f'<rect class="bar" x="0" y="{top + 20}" width="{round(share * WIDTH, 1)}" height="7"/>'
        for top, (key, share) in zip(
            range(0, len(rows) * _ROW_HEIGHT, _ROW_HEIGHT), rows, strict=True
        )
    ]
    return svg_element("Importance of each setting", "".join(parts), height=len(rows) * _ROW_HEIGHT)
