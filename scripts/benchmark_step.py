"""Time a training step beside the same step as others write it.

    OMP_NUM_THREADS=1 python scripts/benchmark_step.py --check --output scripts/benchmarks/step

On a CPU, random weights in the proportions of PaliGemma 2 3B at 224 px; with `--device cuda` its
true sizes. Both sides of a line get the same weights and batch and take turns; a line whose losses
or LoRA gradients differ by more than 1e-5 gets no ratio. One thread gives the steadiest numbers;
CPU time is judged, which a busy machine changes little, and the ratio of wall clocks stands beside.
`--quick` runs everything once on a toy, whose ratios mean nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.side_by_side import Row, compare, finish
from benchmarks.steps import SIZES, Ours, Size, Stock, Trl, batch_of, one_suffix_each, save_random

ROWS = 4
SUFFIXES = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail where a line misses its goal")
    parser.add_argument("--output", type=Path, help="write OUTPUT.md and OUTPUT.json")
    parser.add_argument("--rounds", type=int, default=9, help="of each line")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="a toy, one round")
    told = parser.parse_args()
    size = "quick" if told.quick else "proportions" if told.device == "cpu" else "3b-224"
    with tempfile.TemporaryDirectory() as folder:
        save_random(SIZES[size], Path(folder))
        rows = lines(Path(folder), size, told.device, 1 if told.quick else told.rounds)
    return finish(rows, told.output, check=told.check)


def lines(folder: Path, size: str, device: str, rounds: int) -> list[Row]:
    """Every line of the table, one after the other, so that few models are held at a time."""
    return [
        *plain(folder, SIZES[size], device, rounds),
        *several_suffixes(folder, SIZES[size], device, rounds),
        *checkpointing(folder, SIZES[size], device, rounds),
    ]


def plain(folder: Path, size: Size, device: str, rounds: int) -> list[Row]:
    batch = batch_of(size, ROWS, 1, device)
    ours, stock, trl = Ours(folder, device), Stock(folder, device), Trl(folder, device)
    cached = ours.cached(batch)
    told = (
        ("step / forward(labels)", 1.25, batch, stock),
        ("step, cached vision / forward(labels)", 1.4, cached, stock),
        ("step / TRL's SFTTrainer", 1.5, batch, trl),
    )
    return [
        compare(name, partial(ours.step, mine), partial(other.step, batch), goal, rounds)
        for name, goal, mine, other in told
    ]


def several_suffixes(folder: Path, size: Size, device: str, rounds: int) -> list[Row]:
    packed = batch_of(size, 1, SUFFIXES, device)
    apart = one_suffix_each(packed)
    ours, stock = Ours(folder, device), Stock(folder, device)
    return [
        compare(name, partial(ours.step, packed), partial(other.step, apart), goal, rounds)
        for name, goal, other in (
            (f"{SUFFIXES} suffixes / own rows", 3.3, ours),
            (f"{SUFFIXES} suffixes / forward(labels)", 4.0, stock),
        )
    ]


def checkpointing(folder: Path, size: Size, device: str, rounds: int) -> list[Row]:
    batch = batch_of(size, ROWS, 1, device)
    ours = Ours(folder, device, checkpointing=True)
    stock = Stock(folder, device, checkpointing=True)
    name = "gradient checkpointing / PEFT's"
    return [compare(name, partial(ours.step, batch), partial(stock.step, batch), 1.1, rounds)]


if __name__ == "__main__":
    sys.exit(main())
