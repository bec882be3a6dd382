"""Alternating timing of two implementations, with a ratio only if their results are equal."""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

PACKAGES = ("palitune", "torch", "transformers", "peft", "trl")
TOLERANCE = 1e-5

Result = tuple[float, dict[str, torch.Tensor]]
"""A loss, and the gradient of every LoRA weight by name."""
Step = Callable[[], Result]
Times = tuple[float, float]
"""Seconds of CPU time and of wall-clock time."""
T = TypeVar("T")


@dataclass
class BenchmarkRow:
    """A line of the table: both results, their ratio with quartiles, and the goal of the ratio."""

    line: str
    unit: str
    theirs: float
    ours: float
    ratio: float
    low: float
    high: float
    goal: float
    wall_ratio: float | None = None
    error: str | None = None
    """Reason for a missing ratio."""

    @property
    def below_goal(self) -> bool:
        return self.error is not None or self.ratio < self.goal


def difference(ours: Result, theirs: Result) -> str | None:
    """Return the first relative difference of two steps above `TOLERANCE`, or None."""
    if abs(ours[0] - theirs[0]) > TOLERANCE * abs(theirs[0]):
        return f"losses differ: {ours[0]} and {theirs[0]}"
    if ours[1].keys() != theirs[1].keys():
        return "other weights are trained"
    for name, gradient in theirs[1].items():
        error = float((ours[1][name] - gradient).norm() / gradient.norm().clamp(min=1e-30))
        if not error <= TOLERANCE:
            return f"the gradient of {name} differs by {error:.1e}"
    return None


def compare(
    line: str,
    ours: Callable[[], T],
    theirs: Callable[[], T],
    goal: float,
    rounds: int,
    *,
    find_difference: Callable[[T, T], str | None] | None,
) -> BenchmarkRow:
    """Time two functions alternately, after one call each whose results are compared.

    CPU time is compared on a CPU, wall-clock time on a GPU. The ratio is the median over the
    rounds, because other load slows down both sides of a round.

    Args:
        line: Name of the line in the table.
        ours: Our implementation.
        theirs: The other implementation.
        goal: Goal of the ratio.
        rounds: Number of timed rounds; 0 only compares the results.
        find_difference: Returns a difference of two results, or None; None skips the comparison.
    """
    results = ours(), theirs()
    if find_difference is not None and (error := find_difference(*results)):
        return mismatch_row(line, error, goal)
    if not rounds:
        return BenchmarkRow(line, "", 0, 0, 0, 0, 0, goal)
    measured = [time_alternating(ours, theirs, number) for number in range(rounds)]
    clock = 1 if torch.cuda.is_available() else 0
    pairs = [(mine[clock], other[clock]) for mine, other in measured]
    row = summarize(line, "s" if clock else "CPU s", pairs, goal)
    row.wall_ratio = statistics.median(other[1] / mine[1] for mine, other in measured)
    return row


def time_alternating(
    ours: Callable[[], Any], theirs: Callable[[], Any], round_index: int
) -> tuple[Times, Times]:
    """Time two functions; ours is first in odd rounds."""
    first, second = (ours, theirs) if round_index % 2 else (theirs, ours)
    times = _time(first), _time(second)
    return times if round_index % 2 else (times[1], times[0])


def summarize(
    line: str, unit: str, pairs: Sequence[tuple[float, float]], goal: float
) -> BenchmarkRow:
    """Return the medians of our and their values, and the median and quartiles of the ratios."""
    ratios = [theirs / ours for ours, theirs in pairs]
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    mine, other = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(ratios)
    return BenchmarkRow(line, unit, other, mine, ratio, quarters[0], quarters[2], goal)


def mismatch_row(line: str, error: str, goal: float) -> BenchmarkRow:
    """Return a line without a ratio."""
    return BenchmarkRow(line, "", 0, 0, 0, 0, 0, goal, error=error)


def _time(step: Callable[[], Any]) -> Times:
    _synchronize()
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    _synchronize()
    return time.process_time() - cpu, time.perf_counter() - wall


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def environment() -> dict[str, str]:
    """Return the versions and hardware of the results."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu_name()
    return {
        **{name: metadata.version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": device,
        "threads": str(torch.get_num_threads()),
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def format_throughput(name: str, step: Step, samples: int, seconds: float) -> str:
    """Return a line with the samples and floating-point operations per second of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    peak = ""
    if torch.cuda.is_available():
        peak = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB peak memory"
    rate = counter.get_total_flops() / seconds / 1e12
    return f"{name}: {samples / seconds:.3g} samples/s, {rate:.3g} TFLOP/s{peak}"


def markdown(rows: Sequence[BenchmarkRow], notes: Sequence[str] = ()) -> str:
    """Return the table with the environment and the notes."""
    head = [
        "| line | theirs | ours | ratio | quartiles | wall | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    versions = ", ".join(f"{name} {version}" for name, version in environment().items())
    return "\n".join([versions, "", *head, *map(_format_row, rows), "", *notes]).rstrip()


def _format_row(row: BenchmarkRow) -> str:
    if row.error:
        return f"| {row.line} | no ratio: {row.error} | | | | | {row.goal:g}x |"
    wall = "" if row.wall_ratio is None else f"{row.wall_ratio:.2f}x"
    verdict = "" if not row.below_goal else " **(below)**"
    return (
        f"| {row.line} | {row.theirs:.3g} {row.unit} | {row.ours:.3g} {row.unit} | "
        f"{row.ratio:.2f}x{verdict} | {row.low:.2f} to {row.high:.2f} | {wall} | {row.goal:g}x |"
    )


def finish(
    rows: Sequence[BenchmarkRow], output: Path | None, notes: Sequence[str] = (), *, check: bool
) -> int:
    """Print the table, write it as `.md` and `.json`, and return the exit status."""
    table = markdown(rows, notes)
    print(table)
    if output is not None:
        output.with_suffix(".md").write_text(table + "\n", encoding="utf-8")
        report = {
            "environment": environment(),
            "rows": [asdict(row) for row in rows],
            "notes": list(notes),
        }
        output.with_suffix(".json").write_text(
            json.dumps(report, indent=1) + "\n", encoding="utf-8"
        )
    below_goal = [row for row in rows if row.below_goal]
    for row in below_goal:
        print(f"below the goal of {row.goal:g}x: {row.line}")
    unequal = any(row.error for row in rows)
    return int(unequal or (check and bool(below_goal)))
