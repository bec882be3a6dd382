"""Runs of many data sets summarized by domain: mean, worst data set and intervals.

The intervals are those of the mean over data sets: data sets, not images, are resampled.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palitune.data.sources.validation import utf8_lines
from palitune.errors import DataError
from palitune.evaluation.bootstrap import confidence_interval
from palitune.metrics import higher_is_better
from palitune.report.comparison.runs import read_runs
from palitune.report.metrics_table import EMPTY_CELL, MetricValue, format_number, metric_values
from palitune.report.run_reader import RunFolder
from palitune.report.tables import TextTable

ALL_DOMAINS = "all"
_MIN_DATA_SETS = 3
"""Number of data sets from which the mean gets an interval."""
_DETAILS = 2
"""Level of metrics that are details; see `MetricValue.detail_level`."""
_SEED = 0


@dataclass(frozen=True)
class DomainSummary:
    """One main metric over the data sets of a domain."""

    domain: str
    metric: str
    data_sets: tuple[str, ...]
    values: tuple[float, ...]
    changes: tuple[float, ...]
    """Changes by training; empty if a run was not evaluated before."""
    samples: int
    """Number of bootstrap samples."""

    @property
    def worst(self) -> str:
        """Name of the data set with the worst value."""
        sign = 1 if higher_is_better(self.metric) else -1
        return min(zip(self.values, self.data_sets, strict=True), key=lambda p: sign * p[0])[1]

    def interval(self, numbers: Sequence[float]) -> tuple[float, float] | None:
        """Return the 95 % confidence interval of a mean over data sets; None for few of them."""
        if len(numbers) < _MIN_DATA_SETS or not self.samples:
            return None
        rng = np.random.default_rng(_SEED)
        picked = rng.integers(0, len(numbers), (self.samples, len(numbers)))
        return confidence_interval(np.asarray(numbers)[picked].mean(axis=1))


def compare_domains(folders: Sequence[str], file: Path, *, samples: int) -> list[DomainSummary]:
    """Summarize the main metrics of runs by domain, all data sets together first.

    Args:
        folders: Run folders and folders of sweeps, one run for each data set.
        file: CSV file with a data set and its domain in each line.
        samples: Number of bootstrap samples; 0: no intervals.

    Raises:
        DataError: A data set has no domain, or two runs.
    """
    domains = read_domains(file)
    runs, _ = read_runs(folders)
    by_data_set: dict[str, RunFolder] = {}
    for run in runs:
        name = data_set_name(run)
        if name in by_data_set:
            raise DataError(
                f"{run.path}: data set {name} must have one run, got {by_data_set[name].path} too. "
                "Give one run for each data set."
            )
        if name not in domains:
            raise DataError(
                f"{file}: data set {name} of {run.path} must have a domain, got the data sets "
                f"{', '.join(list(domains)[:10])}. Add a line {name},DOMAIN."
            )
        by_data_set[name] = run
    grouped: dict[tuple[str, str], list[tuple[str, MetricValue]]] = {}
    for name, run in by_data_set.items():
        for metric in metric_values(run.metrics):
            if metric.detail_level < _DETAILS:
                for domain in (ALL_DOMAINS, domains[name]):
                    grouped.setdefault((domain, metric.name), []).append((name, metric))
    return [
        _summary(*key, entries, samples)
        for key, entries in sorted(
            grouped.items(), key=lambda item: (item[0][0] != ALL_DOMAINS, item[0])
        )
    ]


def read_domains(file: Path) -> dict[str, str]:
    """Return the domain of each data set. Raises DataError if a line is not NAME,DOMAIN."""
    if not file.is_file():
        raise DataError(f"domains: {file} does not exist. Write a CSV file of lines NAME,DOMAIN.")
    domains: dict[str, str] = {}
    for number, cells in enumerate(csv.reader(utf8_lines(file.read_bytes(), file)), 1):
        if not cells:
            continue
        if len(cells) != 2 or not all(cell.strip() for cell in cells):
            raise DataError(
                f"{file}:{number}: line must be NAME,DOMAIN, got {','.join(cells)!r}. Correct it."
            )
        domains[cells[0].strip()] = cells[1].strip()
    return domains


def data_set_name(run: RunFolder) -> str:
    """Return the name of the folder of a run's data, else of the data set in the package."""
    data = run.config.get("data")
    path = data.get("path") if isinstance(data, dict) else None
    return Path(str(path)).name if path else run.config_choices.get("data", run.path.name)


def domain_table(summaries: Sequence[DomainSummary]) -> TextTable:
    """Return a row for each domain and metric."""
    rows = []
    for entry in summaries:
        worst_value = entry.values[entry.data_sets.index(entry.worst)]
        rows.append([
            entry.domain, entry.metric, str(len(entry.values)),
            _mean(entry, entry.values), _mean(entry, entry.changes, "+"),
            format_number(entry.metric, worst_value), entry.worst,
        ])  # fmt: skip
    columns = ["domain", "metric", "n", "mean", "change", "worst", "data set"]
    note = "n data sets; in brackets: 95 % confidence interval of the mean over data sets"
    return TextTable(columns, rows, note, "By domain")


def write_domain_files(summaries: Sequence[DomainSummary], folder: Path) -> Path:
    """Write `domains.md` and `domains.csv` into a folder; return the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "domains.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["domain", "metric", "data_set", "value", "change"])
        for entry in summaries:
            changes = entry.changes or ("",) * len(entry.values)
            for cells in zip(entry.data_sets, entry.values, changes, strict=True):
                writer.writerow([entry.domain, entry.metric, *cells])
    page = folder / "domains.md"
    page.write_text(f"# By domain\n\n{domain_table(summaries).to_markdown()}", encoding="utf-8")
    return page


def print_domains(summaries: Sequence[DomainSummary], page: Path) -> None:
    """Print the table and the path of the files."""
    from rich import print as print_rich

    print_rich(domain_table(summaries).to_rich())
    print(f"domains: {page} (also as domains.csv)")


def _summary(
    domain: str, metric: str, entries: Sequence[tuple[str, MetricValue]], samples: int
) -> DomainSummary:
    names = tuple(name for name, _ in entries)
    values = tuple(value.after for _, value in entries)
    has_changes = all(value.before is not None for _, value in entries)
    changes = tuple(value.change for _, value in entries) if has_changes else ()
    return DomainSummary(domain, metric, names, values, changes, samples)


def _mean(entry: DomainSummary, numbers: Sequence[float], sign: str = "") -> str:
    if not numbers:
        return EMPTY_CELL
    text = format_number(entry.metric, float(np.mean(numbers)), sign)
    bounds = entry.interval(numbers)
    if bounds is None:
        return text
    low, high = (format_number(entry.metric, bound, sign) for bound in bounds)
    return f"{text} [{low}, {high}]"
