"""What each training changed of every part it was judged on: what it gained, what it forgot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palitune.report.comparison.compare import ComparisonTable
from palitune.report.metrics_table import MetricValue, format_number, metric_values


@dataclass(frozen=True)
class TrainingGains:
    """The runs that were judged before and after training, on two parts or more."""

    titles: tuple[str, ...]
    """The parts, each with the number that it is quoted by."""
    rows: tuple[tuple[str, tuple[MetricValue | None, ...]], ...]
    """A run's label and how its numbers changed, None where it was not judged on the part."""


def collect_gains(tables: Sequence[ComparisonTable]) -> TrainingGains | None:
    """Collect the changes out of the runs' own numbers; None where there is nothing to weigh up."""
    labels: dict[Path, str] = {}
    found: dict[tuple[Path, int], MetricValue] = {}
    titles: dict[int, str] = {}
    for place, table in enumerate(tables):
        for row in table.rows:
            path = row.run_part.run.path
            labels.setdefault(path, row.label)
            for number in metric_values(row.run_part.run.metrics):
                if (number.part, number.detail_level) == (
                    row.run_part.part,
                    0,
                ) and number.before is not None:
                    found[path, place] = number
                    titles[place] = f"{table.title} {number.name}"
    runs = list(dict.fromkeys(path for path, _ in found))
    if len(titles) < 2:
        return None
    return TrainingGains(
        tuple(titles.values()),
        tuple((labels[run], tuple(found.get((run, place)) for place in titles)) for run in runs),
    )


def format_gain(metric_value: MetricValue) -> tuple[str, str, str]:
    """Write a change as `0.172 → 0.622`, `+0.450 [+0.398, +0.501]` and its verdict."""
    before, after, change = metric_value.cells
    verdict = {True: "gained", False: "lost", None: ""}[metric_value.improved]
    interval = metric_value.intervals[2]
    ends = ", ".join(format_number(metric_value.name, end, "+") for end in interval or ())
    return f"{before} → {after}", f"{change} [{ends}]" if ends else change, verdict
