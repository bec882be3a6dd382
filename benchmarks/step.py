"""Benchmark of a training step, compared with transformers, PEFT and TRL.

    OMP_NUM_THREADS=1 python benchmarks/step.py --check --output benchmarks/step

On a CPU, the model has random weights and the proportions of PaliGemma 2 3B at 224 px; with
`--device cuda` it has the size of the 3B in bf16, after small models were found equal in float32.
Both sides of a line have the same weights and batch and are timed alternately. A line has no ratio
if the float32 losses or LoRA gradients differ by more than 1e-5. One thread gives the most stable
times. CPU time is compared, which depends little on other load; the column `wall` has the ratio of
wall-clock times. `--quick` runs one round on a toy model, whose ratios are meaningless.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from palitune.models.config import Dtype

from harness.options import build_parser
from harness.paired_timing import BenchmarkRow, Step, compare, difference, finish, format_throughput
from harness.training_steps import (
    SIZES,
    ModelSize,
    Ours,
    Stock,
    Trl,
    save_random_model,
    synthetic_batch,
    unpack_suffixes,
)

ROWS = 4
SUFFIXES = 5


def main() -> int:
    args = build_parser(__doc__, rounds=9).parse_args()
    cuda = args.device == "cuda"
    checked = "quick" if args.quick else "proportions"
    rounds = 0 if cuda else 1 if args.quick else args.rounds
    rows, notes = run_cases(checked, StepConfig(args.device, Dtype.fp32, rounds))
    if cuda and not any(row.error for row in rows):
        size = checked if args.quick else "3b-224"
        rows, notes = run_cases(size, StepConfig(args.device, Dtype.bf16, args.rounds))
    return finish(rows, args.output, notes, check=args.check)


@dataclass(frozen=True)
class StepConfig:
    """Device, precision and number of rounds; float32 results must be equal."""

    device: str
    dtype: Dtype
    rounds: int

    def compare(self, name: str, ours: Step, theirs: Step, goal: float) -> BenchmarkRow:
        find_difference = difference if self.dtype is Dtype.fp32 else None
        return compare(name, ours, theirs, goal, self.rounds, find_difference=find_difference)


def run_cases(size: str, config: StepConfig) -> tuple[list[BenchmarkRow], list[str]]:
    """Run all lines one after another, so that few models are in memory at a time."""
    with tempfile.TemporaryDirectory() as name:
        folder = save_random_model(SIZES[size], Path(name))
        rows, notes = compare_plain_steps(folder, SIZES[size], config)
        rows += compare_packed_suffixes(folder, SIZES[size], config)
        rows += compare_checkpointing(folder, SIZES[size], config)
    return rows, notes


def compare_plain_steps(
    folder: Path, size: ModelSize, config: StepConfig
) -> tuple[list[BenchmarkRow], list[str]]:
    batch = synthetic_batch(size, ROWS, 1, config.device)
    ours, stock, trl = (side(folder, config.device, config.dtype) for side in (Ours, Stock, Trl))
    cached = ours.with_vision_features(batch)
    cases = (
        ("step / forward(labels)", 1.25, batch, stock),
        ("step, cached vision / forward(labels)", 1.4, cached, stock),
        ("step / TRL's SFTTrainer", 1.5, batch, trl),
    )
    rows = [
        config.compare(name, partial(ours.step, mine), partial(other.step, batch), goal)
        for name, goal, mine, other in cases
    ]
    notes = [
        format_throughput(
            f"ours, {row.line.split(' / ')[0]}", partial(ours.step, mine), ROWS, row.ours
        )
        for row, (_, _, mine, _) in zip(rows[:2], cases[:2], strict=True)
        if row.ours
    ]
    return rows, notes


def compare_packed_suffixes(
    folder: Path, size: ModelSize, config: StepConfig
) -> list[BenchmarkRow]:
    packed = synthetic_batch(size, 1, SUFFIXES, config.device)
    unpacked = unpack_suffixes(packed)
    ours, stock = (side(folder, config.device, config.dtype) for side in (Ours, Stock))
    return [
        config.compare(name, partial(ours.step, packed), partial(other.step, unpacked), goal)
        for name, goal, other in (
            (f"{SUFFIXES} suffixes / own rows", 3.3, ours),
            (f"{SUFFIXES} suffixes / forward(labels)", 4.0, stock),
        )
    ]


def compare_checkpointing(folder: Path, size: ModelSize, config: StepConfig) -> list[BenchmarkRow]:
    batch = synthetic_batch(size, ROWS, 1, config.device)
    ours, stock = (
        side(folder, config.device, config.dtype, checkpointing=True) for side in (Ours, Stock)
    )
    name = "gradient checkpointing / PEFT's"
    return [config.compare(name, partial(ours.step, batch), partial(stock.step, batch), 1.1)]


if __name__ == "__main__":
    sys.exit(main())
