"""Changes by training on every part (data set) that a run was evaluated on, to show forgetting."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palitune.report.comparison.compare import ComparisonTable
from palitune.report.metrics_table import MetricValue, metric_values


@dataclass(frozen=True)
class TrainingGains:
    """The runs that were evaluated before and after training on at least two parts."""

    titles: tuple[str, ...]
    """The parts, each with its headline metric."""
    rows: tuple[tuple[str, tuple[MetricValue | None, ...]], ...]
    """Label of a run and its headline metrics; None if it was not evaluated on the part."""


def collect_gains(tables: Sequence[ComparisonTable]) -> TrainingGains | None:
    """Return the changes of the headline metrics; None for fewer than two parts with changes."""
    labels: dict[Path, str] = {}
    gains: dict[tuple[Path, int], MetricValue] = {}
    titles: dict[int, str] = {}
    for index, table in enumerate(tables):
        for row in table.rows:
            path = row.run_part.run.path
            labels.setdefault(path, row.label)
            for metric in metric_values(row.run_part.run.metrics):
                # Each part has one headline metric, of detail level 0.
                is_headline = (metric.part, metric.detail_level) == (row.run_part.part, 0)
                if is_headline and metric.before is not None:
                    gains[path, index] = metric
                    titles[index] = f"{table.title} {metric.name}"
    if len(titles) < 2:
        return None
    runs = dict.fromkeys(path for path, _ in gains)
    return TrainingGains(
        tuple(titles.values()),
        tuple((labels[run], tuple(gains.get((run, index)) for index in titles)) for run in runs),
    )
