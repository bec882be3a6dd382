"""Finished runs side by side: a table per part, differences with intervals, and what to mind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from palitune.evaluation.intervals import RESAMPLES, interval
from palitune.examples import DataError
from palitune.metrics.base import Floats
from palitune.report import comparison_warnings
from palitune.report.comparison_pairs import drawn
from palitune.report.comparison_runs import Entry, differing, labels, read_runs
from palitune.report.run_folder import RunFolder
from palitune.report.summary import Number, ranked


@dataclass(frozen=True)
class Row:
    """One run in a table."""

    label: str
    entry: Entry
    numbers: dict[str, Number]
    """By name; `before` and the change are those of and to the baseline, where they are paired."""

    def verdict(self, name: str) -> str:
        """`better` or `worse` than the baseline; empty where the interval leaves that open."""
        number = self.numbers.get(name)
        if number is None or number.intervals[2] is None or number.improved is None:
            return ""
        return "better" if number.improved else "worse"


@dataclass(frozen=True)
class Table:
    """The runs that judge one part of the same data."""

    title: str
    rows: tuple[Row, ...]
    baseline: Row
    ranks: dict[str, int]
    """Every number of any run: 0 what the part is quoted by, 1 what stands beside it, 2 detail."""
    warnings: tuple[str, ...]
    differing: dict[str, list[Any]]
    """Settings in which the runs differ, a value per row."""

    @property
    def quoted(self) -> list[str]:
        return [name for name, rank in self.ranks.items() if rank < 2]


@dataclass(frozen=True)
class Comparison:
    tables: tuple[Table, ...]
    remarks: tuple[str, ...]
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
        return [*self.remarks, *told]


def compare(
    folders: Sequence[str], baseline: str | None = None, *, resamples: int = RESAMPLES
) -> Comparison:
    """Compare runs by their folders, or all runs of a sweep by its folder.

    `baseline` is the folder or label of a run; a table without it takes its first run. Raises
    DataError where a folder is not what it should be, or no run is the baseline.
    """
    runs, remarks = read_runs(folders)
    groups = _groups(runs)
    named = [(entries, labels(entries)) for entries in groups]
    places = [_place(entries, names, baseline) for entries, names in named]
    if baseline is not None and all(place is None for place in places):
        known = dict.fromkeys(name for _, names in named for name in names)
        raise DataError(
            f"baseline={baseline}: no run has that folder or label; there are {'; '.join(known)}"
        )
    tables = [
        _table(entries, names, place or 0, _title(entries[0], groups), resamples)
        for (entries, names), place in zip(named, places, strict=True)
    ]
    return Comparison(tuple(tables), tuple(remarks))


def _groups(runs: Sequence[RunFolder]) -> list[list[Entry]]:
    """Put together the entries that judge the same part of the same data."""
    groups: list[list[Entry]] = []
    for entry in (Entry(run, part) for run in runs for part in _parts(run)):
        home = next((group for group in groups if any(map(entry.goes_with, group))), None)
        if home is None:
            groups.append([entry])
        else:
            home.append(entry)
    return groups


def _parts(run: RunFolder) -> list[str]:
    return list(dict.fromkeys(key.rpartition("/")[0] for key in run.metrics["after"]))


def _title(entry: Entry, groups: Sequence[Sequence[Entry]]) -> str:
    """The part, and the place of its data where several groups have that part."""
    if sum(group[0].part == entry.part for group in groups) == 1:
        return entry.part
    return f"{entry.part} of {entry.settings.get('data.path') or entry.run.path.resolve().name}"


def _place(entries: Sequence[Entry], names: Sequence[str], baseline: str | None) -> int | None:
    for place, (entry, name) in enumerate(zip(entries, names, strict=True)):
        if baseline is None or baseline in (name, entry.run.path.name):
            return place
        if Path(baseline).resolve() == entry.run.path.resolve():
            return place
    return None


def _table(
    entries: Sequence[Entry], names: Sequence[str], place: int, title: str, resamples: int
) -> Table:
    base = entries[place]
    rows = [
        Row(name, entry, _against(base, entry, changes))
        for name, (entry, changes) in zip(names, _changes(base, entries, resamples), strict=True)
    ]
    found = dict.fromkeys(name for entry in entries for name in entry.numbers)
    return Table(
        title=title,
        rows=tuple(rows),
        baseline=rows[place],
        ranks=ranked(list(found)),
        warnings=tuple(comparison_warnings.all_of(entries, names)),
        differing=differing(entries),
    )


Changes = dict[str, Floats] | None
"""Resampled differences by name; None where the two are not paired."""


def _changes(
    base: Entry, entries: Sequence[Entry], resamples: int
) -> Iterator[tuple[Entry, Changes]]:
    order = list(base.answers)
    of_base = drawn(base, order, resamples) if order else {}
    for entry in entries:
        if entry is base or not comparison_warnings.paired(base, entry):
            yield entry, None
            continue
        of_entry = drawn(entry, order, resamples)
        yield entry, {name: of_entry[name] - of_base[name] for name in of_entry if name in of_base}


def _against(base: Entry, entry: Entry, changes: Changes) -> dict[str, Number]:
    """The numbers of an entry with those of the baseline before them, where they are paired."""
    if changes is None:
        return entry.numbers
    against: dict[str, Number] = {}
    for name, number in entry.numbers.items():
        other = base.numbers.get(name)
        if other is None:
            against[name] = number
            continue
        change = interval(changes[name]) if name in changes else None
        if change is not None and np.isnan(change).any():
            change = None
        intervals = (other.intervals[1], number.intervals[1], change)
        against[name] = replace(number, before=other.after, intervals=intervals)
    return against
