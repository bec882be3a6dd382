"""What each training changed of every part it was judged on: what it gained, what it forgot."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from palitune.report.comparison import Table
from palitune.report.summary import Number, numbers, written


@dataclass(frozen=True)
class Gains:
    """The runs that were judged before and after training, on two parts or more."""

    titles: tuple[str, ...]
    """The parts, each with the number that it is quoted by."""
    rows: tuple[tuple[str, tuple[Number | None, ...]], ...]
    """A run's label and how its numbers changed, None where it was not judged on the part."""


def gains(tables: Sequence[Table]) -> Gains | None:
    """Collect the changes out of the runs' own numbers; None where there is nothing to weigh up."""
    labels: dict[Path, str] = {}
    found: dict[tuple[Path, int], Number] = {}
    titles: dict[int, str] = {}
    for place, table in enumerate(tables):
        for row in table.rows:
            path = row.entry.run.path
            labels.setdefault(path, row.label)
            for number in numbers(row.entry.run.metrics):
                if (number.part, number.rank) == (row.entry.part, 0) and number.before is not None:
                    found[path, place] = number
                    titles[place] = f"{table.title} {number.name}"
    runs = list(dict.fromkeys(path for path, _ in found))
    if len(titles) < 2:
        return None
    return Gains(
        tuple(titles.values()),
        tuple((labels[run], tuple(found.get((run, place)) for place in titles)) for run in runs),
    )


def told(number: Number) -> tuple[str, str, str]:
    """Write a change as `0.172 → 0.622`, `+0.450 [+0.398, +0.501]` and its verdict."""
    before, after, change = number.cells
    verdict = {True: "gained", False: "lost", None: ""}[number.improved]
    interval = number.intervals[2]
    ends = ", ".join(written(number.name, end, "+") for end in interval or ())
    return f"{before} → {after}", f"{change} [{ends}]" if ends else change, verdict
