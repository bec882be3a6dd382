"""Benchmark of generation, compared with `generate` of transformers.

    OMP_NUM_THREADS=1 python benchmarks/generate.py --check --output generate

On a CPU, the model has random weights and the proportions of PaliGemma 2 3B at 224 px, with LoRA;
with `--device cuda` it has the size of the 3B in bf16, after small models were found equal in
float32. Both sides of a line have the same weights and prompts and are timed alternately. A line
has no ratio if the float32 tokens differ, or their log-probabilities by more than 1e-4. CPU time is
compared, as in `step.py`. `--quick` runs one round on a toy model, whose ratios are meaningless.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from palitune.models.config import Dtype

from harness.generation import ANSWER_LENGTHS, Ours, Stock, difference, synthetic_prompts
from harness.options import build_parser
from harness.paired_timing import BenchmarkRow, compare, finish
from harness.training_steps import SIZES, save_random_model

BENCHMARK_CASES: Sequence[tuple[str, float, Sequence[int], int, int]] = (
    ("answers of 6 to 72 tokens", 1.5, ANSWER_LENGTHS, 8, 1),
    ("the same, 4 questions per image", 2.0, ANSWER_LENGTHS, 2, 1),
    ("answers of 12 tokens each", 1.0, [12] * 4, 4, 1),
    ("3 beams", 1.5, [12, 6], 2, 3),
)
"""Name, goal, tokens of each answer, images, beams."""


def main() -> int:
    args = build_parser(__doc__, rounds=5).parse_args()
    cuda = args.device == "cuda"
    checked = "quick" if args.quick else "proportions"
    rounds = 0 if cuda else 1 if args.quick else args.rounds
    rows = run_cases(checked, args.device, Dtype.fp32, rounds)
    if cuda and not any(row.error for row in rows):
        rows = run_cases(checked if args.quick else "3b-224", args.device, Dtype.bf16, args.rounds)
    return finish(rows, args.output, check=args.check)


def run_cases(size: str, device: str, dtype: Dtype, rounds: int) -> list[BenchmarkRow]:
    """Run every line `rounds` times; float32 answers must be equal."""
    with tempfile.TemporaryDirectory() as name:
        folder = save_random_model(SIZES[size], Path(name))
        ours, stock = (side(folder, device, dtype) for side in (Ours, Stock))
    rows = []
    for line, goal, lengths, images, beams in BENCHMARK_CASES:
        prompts = synthetic_prompts(SIZES[size], len(lengths), images, device), lengths, beams
        rows.append(
            compare(
                f"{line} / HF generate",
                partial(ours.generate, *prompts),
                partial(stock.generate, *prompts),
                goal,
                rounds,
                find_difference=difference if dtype is Dtype.fp32 else None,
            )
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
