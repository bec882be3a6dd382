"""Text of metric values, intervals and changes in a comparison."""

import math
from dataclasses import dataclass

from palitune.report.comparison.compare import ComparisonRow
from palitune.report.metrics_table import EMPTY_CELL, Interval, MetricValue, format_number

INTERVAL_NOTE = (
    "Brackets contain 95 % bootstrap confidence intervals. Changes are relative to the baseline, "
    "on the same bootstrap samples. Better/worse means that the interval excludes zero. With many "
    "runs, some differences are significant by chance."
)


@dataclass(frozen=True)
class FormattedMetric:
    value: str
    interval: str = ""
    """`[0.578, 0.677]`; empty without an interval, or if both bounds read the same."""
    verdict: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.value, self.interval, self.verdict)))


def format_value(row: ComparisonRow, name: str) -> FormattedMetric:
    """Format a metric of a run, `0.628 [0.578, 0.677]`; a dash if the run does not have it."""
    metric = row.metric_values.get(name)
    if metric is None:
        return FormattedMetric(EMPTY_CELL)
    return FormattedMetric(
        format_number(name, metric.after), _format_interval(name, metric.intervals[1])
    )


def format_change(row: ComparisonRow, name: str) -> FormattedMetric | None:
    """Format the change to the baseline, `+0.456 [+0.403, +0.508] better`; None if unknown."""
    metric = row.metric_values.get(name)
    if metric is None or math.isnan(metric.change):
        return None
    return _format_difference(metric, row.verdict(name))


def format_gain(metric: MetricValue) -> tuple[str, FormattedMetric]:
    """Format a change by training as `0.172 → 0.622` and `+0.450 [+0.398, +0.501] better`."""
    before, after, _ = metric.cells
    verdict = {True: "better", False: "worse", None: ""}[metric.improved]
    return f"{before} → {after}", _format_difference(metric, verdict)


def _format_difference(metric: MetricValue, verdict: str) -> FormattedMetric:
    interval = _format_interval(metric.name, metric.intervals[2], "+")
    return FormattedMetric(format_number(metric.name, metric.change, "+"), interval, verdict)


def _format_interval(name: str, interval: Interval | None, sign: str = "") -> str:
    low, high = (format_number(name, end, sign) for end in interval or (math.nan, math.nan))
    return "" if low == high else f"[{low}, {high}]"
