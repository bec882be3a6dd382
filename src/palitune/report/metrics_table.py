"""Metric values of a run before and after training, and their table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from palitune.metrics import higher_is_better
from palitune.report.tables import Cell, TextTable

# Main metrics of boxes and masks; the other ones are details.
_MAIN_OBJECT_METRICS = (
    *("f1@.5", "AP50", "AP"),
    *("mask_f1@.5", "mask_AP50", "mask_AP", "mask_iou"),
    *("mean_iou", "cumulative_iou", "box_accuracy@.5"),
)
_OBJECT_TASK_METRICS = {"AP", "mask_AP", "cumulative_iou"}
_OUTPUT_VALIDITY_METRICS = ("malformed", "unfinished")
# Shares of the generated text: shown in percent as well, but as details.
_PERCENT_METRICS = (*_OUTPUT_VALIDITY_METRICS, "malformed_fragments", "duplicates", "unknown_label")
# Half of the last digit shown: a smaller change is shown as none.
_MIN_CHANGE = 5e-4

EMPTY_CELL = "–"

Interval = tuple[float, float]
Intervals = tuple[Interval | None, Interval | None, Interval | None]


@dataclass(frozen=True, kw_only=True)
class MetricValue:
    """One metric of one part, before and after training; NaN if undefined."""

    part: str
    """Empty if the metric belongs to no part."""
    name: str
    before: float | None
    """None if nothing was evaluated before training."""
    after: float
    detail_level: int
    """0: headline metric of the part, 1: other main metrics, 2: details."""
    intervals: Intervals = (None, None, None)
    """95 % confidence intervals of before, after and change; None: not computed."""

    @property
    def change(self) -> float:
        return math.nan if self.before is None else self.after - self.before

    @property
    def improved(self) -> bool | None:
        """Whether the metric improved; None without a change, or if its interval includes zero."""
        if math.isnan(self.change) or abs(self.change) < _MIN_CHANGE:
            return None
        if (interval := self.intervals[2]) and interval[0] <= 0 <= interval[1]:
            return None
        return (self.change > 0) == higher_is_better(self.name)

    @property
    def cells(self) -> list[str]:
        """Before, after and change as text; the value alone if there is no before."""
        after = format_number(self.name, self.after)
        if self.before is None:
            return [after]
        return [
            format_number(self.name, self.before),
            after,
            format_number(self.name, self.change, "+"),
        ]

    @property
    def margins(self) -> list[str]:
        """Half the width of the interval of each cell, `±.021`; empty for before, and if zero."""
        pairs = zip(self.cells, self._cell_intervals, strict=True)
        margins = [_format_margin(self.name, cell, interval) for cell, interval in pairs]
        return margins if self.before is None else ["", *margins[1:]]

    @property
    def tooltips(self) -> list[str]:
        """The interval of each cell in words; empty without an interval."""
        bounds = [
            " to ".join(format_number(self.name, bound) for bound in interval or ())
            for interval in self._cell_intervals
        ]
        return [f"95 % confidence interval: {text}" if text else "" for text in bounds]

    @property
    def _cell_intervals(self) -> Sequence[Interval | None]:
        return self.intervals[1:2] if self.before is None else self.intervals


def metric_values(metrics: Mapping[str, Any]) -> list[MetricValue]:
    """List the metrics of a `metrics.json`, part by part, the most important ones first."""
    by_part: dict[str, list[str]] = {}
    for key in metrics["after"]:
        part, slash, name = key.partition("/")
        by_part.setdefault(part if slash else "", []).append(name if slash else key)
    before = metrics.get("before")
    intervals = metrics.get("intervals") or {}
    values: list[MetricValue] = []
    for part, names in by_part.items():
        for name, level in detail_levels(names).items():
            key = f"{part}/{name}" if part else name
            values.append(
                MetricValue(
                    part=part,
                    name=name,
                    before=None if before is None else _to_float(before.get(key)),
                    after=_to_float(metrics["after"][key]),
                    detail_level=level,
                    intervals=(
                        _read_interval(intervals.get("before"), key),
                        _read_interval(intervals.get("after"), key),
                        _read_interval(intervals.get("difference"), key),
                    ),
                )
            )
    return values


def slice_values(
    metrics: Mapping[str, Any], metric_values: Sequence[MetricValue]
) -> dict[str, dict[str, list[tuple[str, int, MetricValue]]]]:
    """Return (value, examples, headline metric) of every slice, by part and attribute."""
    after = (metrics.get("slices") or {}).get("after") or {}
    before = (metrics.get("slices") or {}).get("before") or {}
    slices: dict[str, dict[str, list[tuple[str, int, MetricValue]]]] = {}
    for headline in (metric for metric in metric_values if metric.detail_level == 0):
        for attribute, by_value in after.get(headline.part, {}).items():
            rows = slices.setdefault(headline.part, {}).setdefault(attribute, [])
            earlier = before.get(headline.part, {}).get(attribute, {})
            for value, scores in by_value.items():
                metric = replace(
                    headline,
                    before=None
                    if headline.before is None
                    else _to_float(earlier.get(value, {}).get(headline.name)),
                    after=_to_float(scores.get(headline.name)),
                    intervals=(None, None, None),
                )
                rows.append((value, scores["examples"], metric))
    return slices


def detail_levels(names: list[str]) -> dict[str, int]:
    """Order the metric names of one part by importance; return the detail level of each."""
    validity = [name for name in names if name in _OUTPUT_VALIDITY_METRICS]
    main, details = [name for name in names if name not in _OUTPUT_VALIDITY_METRICS], []
    if _OBJECT_TASK_METRICS & set(main):
        details = [name for name in main if name not in _MAIN_OBJECT_METRICS]
        main = [name for name in _MAIN_OBJECT_METRICS if name in main]
    levels = dict.fromkeys(main[:1], 0)
    return levels | dict.fromkeys(main[1:] + validity, 1) | dict.fromkeys(details, 2)


def format_number(name: str, value: float, sign: str = "") -> str:
    """Format a metric value: three digits, some shares in percent, a dash if undefined.

    Args:
        name: Metric name.
        value: Its value.
        sign: "+" for a change, which always has a sign.
    """
    if math.isnan(value):
        return EMPTY_CELL
    if sign and abs(value) < _MIN_CHANGE:
        return "±0"
    text = f"{value * 100:{sign}.1f} %" if name in _PERCENT_METRICS else f"{value:{sign}.3f}"
    return text.replace("-", "−")


def part_title(part: str, metrics: Mapping[str, Any]) -> str:
    """Return the name of a part with its number of examples, `ocr (n = 300)`."""
    count = metrics.get("examples", {}).get(part)
    return part if count is None else f"{part} (n = {count})".strip()


def metrics_table(metrics: Mapping[str, Any]) -> TextTable:
    """Return the main metrics of a `metrics.json`; details are left out."""
    from rich.text import Text

    headings = ["value"] if metrics.get("before") is None else ["before", "after", "change"]
    rows: list[list[Cell]] = []
    main = [metric for metric in metric_values(metrics) if metric.detail_level < 2]
    for metric in main:
        *values, final = metric.cells
        color = {True: "green", False: "red", None: ""}[metric.improved]
        margin = (f" {metric.margins[-1]}".rstrip(), "dim")
        name = Text(metric.name, style="" if metric.detail_level else "bold")
        part = part_title(metric.part, metrics)
        rows.append([part, name, *values, Text.assemble((final, color), margin)])
    has_margins = any(metric.margins[-1] for metric in main)
    return TextTable(
        columns=["part", "metric", *headings],
        rows=rows,
        note="± half the 95 % bootstrap confidence interval" if has_margins else "",
        title=f"split {metrics['split']}" if "split" in metrics else "",
        grouped=True,
    )


def _read_interval(intervals: Mapping[str, Any] | None, key: str) -> Interval | None:
    low, high = (intervals or {}).get(key) or (None, None)
    return None if low is None or high is None else (float(low), float(high))


def _format_margin(name: str, cell: str, interval: Interval | None) -> str:
    if interval is None or cell in (EMPTY_CELL, "±0"):
        return ""
    text = format_number(name, (interval[1] - interval[0]) / 2).removesuffix(" %")
    if not text.strip("0."):
        return ""
    return "±" + (text if name in _PERCENT_METRICS else text.removeprefix("0"))


def _to_float(value: float | None) -> float:
    return math.nan if value is None else float(value)
