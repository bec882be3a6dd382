"""Comparison of finished runs: a table per part with paired bootstrap intervals and warnings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from palitune.errors import DataError
from palitune.evaluation.bootstrap import DEFAULT_BOOTSTRAP_SAMPLES, confidence_interval
from palitune.metrics.base import FloatArray
from palitune.report.comparison.paired_bootstrap import bootstrap_metrics
from palitune.report.comparison.runs import RunPart, differing_settings, read_runs, run_labels
from palitune.report.comparison.warnings import collect_warnings, is_paired
from palitune.report.metrics_table import MetricValue, detail_levels
from palitune.report.run_reader import RunFolder


@dataclass(frozen=True)
class ComparisonRow:
    """One run in a comparison table."""

    label: str
    run_part: RunPart
    metric_values: dict[str, MetricValue]
    """By name; `before` is the value of the baseline if both have the same examples."""

    def verdict(self, name: str) -> str:
        """Return `better` or `worse` than the baseline; empty if the interval includes zero."""
        metric = self.metric_values.get(name)
        if metric is None or metric.intervals[2] is None or metric.improved is None:
            return ""
        return "better" if metric.improved else "worse"

    def value_and_bounds(self, name: str) -> list[float]:
        """Return a metric value and the bounds of its interval, if it has one."""
        metric = self.metric_values[name]
        return [metric.after, *(metric.intervals[1] or ())]


@dataclass(frozen=True)
class ComparisonTable:
    """The runs that were evaluated on one part of the same data."""

    title: str
    rows: tuple[ComparisonRow, ...]
    baseline: ComparisonRow
    detail_levels: dict[str, int]
    """Metrics of all runs with `MetricValue.detail_level`, the most important ones first."""
    warnings: tuple[str, ...]
    differing_settings: dict[str, list[Any]]
    """Settings in which the runs differ, with a value per row."""

    @property
    def main_metrics(self) -> list[str]:
        return [name for name, level in self.detail_levels.items() if level < 2]


@dataclass(frozen=True)
class Comparison:
    tables: tuple[ComparisonTable, ...]
    failed_jobs: tuple[str, ...]
    """Sentences about failed jobs of a sweep."""

    @property
    def warnings(self) -> list[str]:
        """All warnings; one that does not hold for all parts begins with its parts."""
        parts: dict[str, list[str]] = {}
        for table in self.tables:
            for warning in table.warnings:
                parts.setdefault(warning, []).append(table.title)
        sentences = [
            warning if len(titles) == len(self.tables) else f"{', '.join(titles)}: {warning}"
            for warning, titles in parts.items()
        ]
        return [*self.failed_jobs, *sentences]


def compare_runs(
    folders: Sequence[str],
    baseline: str | None = None,
    *,
    bootstrap_samples: int = DEFAULT_BOOTSTRAP_SAMPLES,
) -> Comparison:
    """Compare runs, or all runs of a sweep.

    Args:
        folders: Run folders and folders of sweeps.
        baseline: Folder or label of the baseline; a table without it uses its first run.
        bootstrap_samples: Number of bootstrap samples; 0: no intervals of differences.

    Raises:
        DataError: A folder cannot be read, or no run is the baseline.
    """
    runs, failed_jobs = read_runs(folders)
    groups = _group_by_data(runs)
    labels = [run_labels(group) for group in groups]
    indices = [_baseline_index(*labeled, baseline) for labeled in zip(groups, labels, strict=True)]
    if baseline is not None and all(index is None for index in indices):
        valid = dict.fromkeys(label for of_group in labels for label in of_group)
        raise DataError(
            f"baseline={baseline}: no run has that folder or label. Valid are {'; '.join(valid)}."
        )
    tables = [
        _build_table(group, names, index or 0, _table_title(group[0], groups), bootstrap_samples)
        for group, names, index in zip(groups, labels, indices, strict=True)
    ]
    return Comparison(tuple(tables), tuple(failed_jobs))


def _group_by_data(runs: Sequence[RunFolder]) -> list[list[RunPart]]:
    """Group the run parts that were evaluated on the same part of the same data."""
    groups: list[list[RunPart]] = []
    for run in runs:
        for part in dict.fromkeys(key.rpartition("/")[0] for key in run.metrics["after"]):
            entry = RunPart(run, part)
            group = next((group for group in groups if any(map(entry.is_comparable, group))), None)
            if group is None:
                groups.append([entry])
            else:
                group.append(entry)
    return groups


def _table_title(run_part: RunPart, groups: Sequence[Sequence[RunPart]]) -> str:
    """Return the part, with the path of its data if several groups have a part of this name."""
    if sum(group[0].part == run_part.part for group in groups) == 1:
        return run_part.part
    path = run_part.settings.get("data.path") or run_part.run.path.resolve().name
    return f"{run_part.part} of {path}"


def _baseline_index(
    run_parts: Sequence[RunPart], labels: Sequence[str], baseline: str | None
) -> int | None:
    for index, (entry, label) in enumerate(zip(run_parts, labels, strict=True)):
        if baseline is None or baseline in (label, entry.run.path.name):
            return index
        if Path(baseline).resolve() == entry.run.path.resolve():
            return index
    return None


def _build_table(
    run_parts: Sequence[RunPart],
    labels: Sequence[str],
    baseline_index: int,
    title: str,
    bootstrap_samples: int,
) -> ComparisonTable:
    base = run_parts[baseline_index]
    rows = [
        ComparisonRow(label, entry, _relative_to_baseline(base, entry, differences))
        for label, (entry, differences) in zip(
            labels, _bootstrap_differences(base, run_parts, bootstrap_samples), strict=True
        )
    ]
    names = dict.fromkeys(name for entry in run_parts for name in entry.metric_values)
    return ComparisonTable(
        title=title,
        rows=tuple(rows),
        baseline=rows[baseline_index],
        detail_levels=detail_levels(list(names)),
        warnings=tuple(collect_warnings(run_parts, labels)),
        differing_settings=differing_settings(run_parts),
    )


BootstrapDifferences = dict[str, FloatArray] | None
"""Differences on each bootstrap sample by metric name; None for runs with other examples."""


def _bootstrap_differences(
    baseline: RunPart, run_parts: Sequence[RunPart], bootstrap_samples: int
) -> Iterator[tuple[RunPart, BootstrapDifferences]]:
    order = list(baseline.examples)
    base = bootstrap_metrics(baseline, order, bootstrap_samples) if order else {}
    for entry in run_parts:
        if entry is baseline or not is_paired(baseline, entry):
            yield entry, None
            continue
        values = bootstrap_metrics(entry, order, bootstrap_samples)
        yield entry, {name: values[name] - base[name] for name in values if name in base}


def _relative_to_baseline(
    baseline: RunPart, run_part: RunPart, differences: BootstrapDifferences
) -> dict[str, MetricValue]:
    """Return the metric values of a run part with those of the baseline as `before`."""
    if differences is None:
        return run_part.metric_values
    relative = dict(run_part.metric_values)
    for name in relative.keys() & baseline.metric_values.keys():
        base = baseline.metric_values[name]
        change = confidence_interval(differences[name]) if name in differences else None
        if change is not None and np.isnan(change).any():
            change = None
        intervals = (base.intervals[1], relative[name].intervals[1], change)
        relative[name] = replace(relative[name], before=base.after, intervals=intervals)
    return relative
