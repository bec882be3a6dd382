"""Finished runs side by side: a table per part, differences with intervals, and what to mind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from palitune.errors import DataError
from palitune.evaluation.bootstrap import DEFAULT_BOOTSTRAP_SAMPLES, confidence_interval
from palitune.metrics.base import FloatArray
from palitune.report.comparison import warnings as warnings_module
from palitune.report.comparison.paired_bootstrap import bootstrap_metrics
from palitune.report.comparison.runs import RunPart, differing_settings, read_runs, run_labels
from palitune.report.metrics_table import MetricValue, detail_levels
from palitune.report.run_reader import RunFolder


@dataclass(frozen=True)
class ComparisonRow:
    """One run in a table."""

    label: str
    run_part: RunPart
    metric_values: dict[str, MetricValue]
    """By name; `before` and the change are those of and to the baseline, where they are paired."""

    def verdict(self, name: str) -> str:
        """`better` or `worse` than the baseline; empty where the interval leaves that open."""
        number = self.metric_values.get(name)
        if number is None or number.intervals[2] is None or number.improved is None:
            return ""
        return "better" if number.improved else "worse"


@dataclass(frozen=True)
class ComparisonTable:
    """The runs that judge one part of the same data."""

    title: str
    rows: tuple[ComparisonRow, ...]
    baseline: ComparisonRow
    detail_levels: dict[str, int]
    """Every number of any run: 0 what the part is quoted by, 1 what stands beside it, 2 detail."""
    warnings: tuple[str, ...]
    differing_settings: dict[str, list[Any]]
    """Settings in which the runs differ, a value per row."""

    @property
    def main_metrics(self) -> list[str]:
        return [name for name, rank in self.detail_levels.items() if rank < 2]


@dataclass(frozen=True)
class Comparison:
    tables: tuple[ComparisonTable, ...]
    failed_jobs: tuple[str, ...]
    """What is not about one table: jobs of a sweep that failed."""

    @property
    def warnings(self) -> list[str]:
        """Every warning in a sentence, with its parts where it is not about all of them."""
        parts: dict[str, list[str]] = {}
        for table in self.tables:
            for warning in table.warnings:
                parts.setdefault(warning, []).append(table.title)
        told = [
            warning if len(titles) == len(self.tables) else f"{', '.join(titles)}: {warning}"
            for warning, titles in parts.items()
        ]
        return [*self.failed_jobs, *told]


def compare_runs(
    folders: Sequence[str],
    baseline: str | None = None,
    *,
    bootstrap_samples: int = DEFAULT_BOOTSTRAP_SAMPLES,
) -> Comparison:
    """Compare runs by their folders, or all runs of a sweep by its folder.

    `baseline` is the folder or label of a run; a table without it takes its first run. Raises
    DataError where a folder is not what it should be, or no run is the baseline.
    """
    runs, remarks = read_runs(folders)
    groups = _group_by_data(runs)
    named = [(entries, run_labels(entries)) for entries in groups]
    places = [_baseline_index(entries, names, baseline) for entries, names in named]
    if baseline is not None and all(place is None for place in places):
        known = dict.fromkeys(name for _, names in named for name in names)
        raise DataError(
            f"baseline={baseline}: no run has that folder or label; there are {'; '.join(known)}"
        )
    tables = [
        _build_table(
            entries, names, place or 0, _table_title(entries[0], groups), bootstrap_samples
        )
        for (entries, names), place in zip(named, places, strict=True)
    ]
    return Comparison(tuple(tables), tuple(remarks))


def _group_by_data(runs: Sequence[RunFolder]) -> list[list[RunPart]]:
    """Put together the entries that judge the same part of the same data."""
    groups: list[list[RunPart]] = []
    for entry in (RunPart(run, part) for run in runs for part in _part_names(run)):
        home = next((group for group in groups if any(map(entry.is_comparable, group))), None)
        if home is None:
            groups.append([entry])
        else:
            home.append(entry)
    return groups


def _part_names(run: RunFolder) -> list[str]:
    return list(dict.fromkeys(key.rpartition("/")[0] for key in run.metrics["after"]))


def _table_title(run_part: RunPart, groups: Sequence[Sequence[RunPart]]) -> str:
    """The part, and the place of its data where several groups have that part."""
    if sum(group[0].part == run_part.part for group in groups) == 1:
        return run_part.part
    return f"{run_part.part} of {run_part.settings.get('data.path') or run_part.run.path.resolve().name}"


def _baseline_index(
    run_parts: Sequence[RunPart], labels: Sequence[str], baseline: str | None
) -> int | None:
    for place, (entry, name) in enumerate(zip(run_parts, labels, strict=True)):
        if baseline is None or baseline in (name, entry.run.path.name):
            return place
        if Path(baseline).resolve() == entry.run.path.resolve():
            return place
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
        ComparisonRow(name, entry, _relative_to_baseline(base, entry, changes))
        for name, (entry, changes) in zip(
            labels, _bootstrap_differences(base, run_parts, bootstrap_samples), strict=True
        )
    ]
    found = dict.fromkeys(name for entry in run_parts for name in entry.metric_values)
    return ComparisonTable(
        title=title,
        rows=tuple(rows),
        baseline=rows[baseline_index],
        detail_levels=detail_levels(list(found)),
        warnings=tuple(warnings_module.collect_warnings(run_parts, labels)),
        differing_settings=differing_settings(run_parts),
    )


BootstrapDifferences = dict[str, FloatArray] | None
"""Resampled differences by name; None where the two are not paired."""


def _bootstrap_differences(
    baseline: RunPart, run_parts: Sequence[RunPart], bootstrap_samples: int
) -> Iterator[tuple[RunPart, BootstrapDifferences]]:
    order = list(baseline.examples)
    of_base = bootstrap_metrics(baseline, order, bootstrap_samples) if order else {}
    for entry in run_parts:
        if entry is baseline or not warnings_module.is_paired(baseline, entry):
            yield entry, None
            continue
        of_entry = bootstrap_metrics(entry, order, bootstrap_samples)
        yield entry, {name: of_entry[name] - of_base[name] for name in of_entry if name in of_base}


def _relative_to_baseline(
    baseline: RunPart, run_part: RunPart, differences: BootstrapDifferences
) -> dict[str, MetricValue]:
    """The numbers of an entry with those of the baseline before them, where they are paired."""
    if differences is None:
        return run_part.metric_values
    against: dict[str, MetricValue] = {}
    for name, number in run_part.metric_values.items():
        other = baseline.metric_values.get(name)
        if other is None:
            against[name] = number
            continue
        change = confidence_interval(differences[name]) if name in differences else None
        if change is not None and np.isnan(change).any():
            change = None
        intervals = (other.intervals[1], number.intervals[1], change)
        against[name] = replace(number, before=other.after, intervals=intervals)
    return against
