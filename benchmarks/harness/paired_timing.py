"""Measure two ways of doing the same, taking turns, and refuse a ratio where they differ."""

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
"""A loss, and the gradient of every LoRA weight by its name."""
Step = Callable[[], Result]
Times = tuple[float, float]
"""Seconds of CPU and of wall clock."""
T = TypeVar("T")


@dataclass
class BenchmarkRow:
    """A line of the table: how many times better we are, and what was asked for."""

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
    """Why there is no ratio."""

    @property
    def below_goal(self) -> bool:
        return self.error is not None or self.ratio < self.goal


def difference(ours: Result, theirs: Result) -> str | None:
    """Say where two steps differ by more than `TOLERANCE` of the value, if anywhere."""
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
    """Time both, in turns, each once unmeasured and checked; times of this process's CPU on a CPU.

    The ratio is the median of the rounds' own, with its quartiles: a busy machine slows both sides
    of a round. `differ` says where results differ; None, for 16-bit models, leaves the check out. 0
    rounds do nothing else.
    """
    results = ours(), theirs()
    if find_difference is not None and (error := find_difference(*results)):
        return mismatch_row(line, error, goal)
    if not rounds:
        return BenchmarkRow(line, "", 0, 0, 0, 0, 0, goal)
    measured = [time_alternating(ours, theirs, number) for number in range(rounds)]
    judged = 1 if torch.cuda.is_available() else 0
    pairs = [(mine[judged], other[judged]) for mine, other in measured]
    row = summarize(line, "s" if judged else "CPU s", pairs, goal)
    row.wall_ratio = statistics.median(other[1] / mine[1] for mine, other in measured)
    return row


def time_alternating(
    ours: Callable[[], Any], theirs: Callable[[], Any], round_index: int
) -> tuple[Times, Times]:
    """Time both, ours first in rounds of an odd number."""
    first, second = (ours, theirs) if round_index % 2 else (theirs, ours)
    one, two = _time(first), _time(second)
    return (one, two) if round_index % 2 else (two, one)


def summarize(
    line: str, unit: str, pairs: Sequence[tuple[float, float]], goal: float
) -> BenchmarkRow:
    """The medians of what was measured, ours and theirs, and of the ratios of each round."""
    ratios = [theirs / ours for ours, theirs in pairs]
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    mine, other = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(ratios)
    return BenchmarkRow(line, unit, other, mine, ratio, quarters[0], quarters[2], goal)


def mismatch_row(line: str, error: str, goal: float) -> BenchmarkRow:
    """A line without a ratio."""
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
    """Versions and hardware that the numbers belong to."""
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
    """Say how fast a step is and how many floating-point operations it does."""
    with FlopCounterMode(display=False) as counted:
        step()
    peak = ""
    if torch.cuda.is_available():
        peak = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most"
    rate = counted.get_total_flops() / seconds / 1e12
    return f"{name}: {samples / seconds:.3g} samples/s, {rate:.3g} TFLOP/s{peak}"


def markdown(rows: Sequence[BenchmarkRow], notes: Sequence[str] = ()) -> str:
    """The table as it is shown and kept."""
    told = environment()
    head = [
        "| line | theirs | ours | ratio | quartiles | wall | goal |",
        "|---|---|---|---|---|---|---|",
    ]
    first = ", ".join(f"{name} {version}" for name, version in told.items())
    return "\n".join([first, "", *head, *map(_format_row, rows), "", *notes]).rstrip()


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
        written = {
            "environment": environment(),
            "rows": [asdict(row) for row in rows],
            "notes": list(notes),
        }
        output.with_suffix(".json").write_text(
            json.dumps(written, indent=1) + "\n", encoding="utf-8"
        )
    short = [row for row in rows if row.below_goal]
    for row in short:
        print(f"below its goal of {row.goal:g}x: {row.line}")
    unequal = any(row.error for row in rows)
    return int(unequal or (check and bool(short)))
