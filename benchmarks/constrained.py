"""Benchmark of constrained decoding of JSON, compared with free decoding of the same answers.

    OMP_NUM_THREADS=1 python benchmarks/constrained.py --check --output constrained

The tokenizer has the real number of pieces, 257,152. The model has random weights and a small
network below an output layer over all of them, so that a step costs less than that of a real model
and the constraint weighs more. Both sides write the same receipts, which the scores are made to
prefer, other ones in each round; a line has no ratio if the tokens differ. Its notes count the
malformed ones of 1,000 constrained answers to random scores. `--quick` has a toy vocabulary.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from palitune.models.config import Dtype
from palitune.models.generation.beam_search import GreedySearch
from palitune.models.generation.json_constraint import compile_json_grammar
from palitune.models.generation.kv_cache import generate_tokens
from palitune.models.generation.static_kv_cache import decoder_class
from palitune.tasks.json_task import Json

from harness.generation import Generations, Ours, synthetic_prompts
from harness.json_answers import (
    DECLARED,
    GRAMMAR,
    GivenAnswers,
    build_tokenizer,
    random_constrained_answers,
    random_receipts,
)
from harness.options import build_parser
from harness.paired_timing import BenchmarkRow, compare, finish
from harness.training_steps import SIZES, save_random_model

MAX_SLOWDOWN = 1.05
VOCABULARY = 257_152
ADDED_TOKENS = 64
"""The output layer is a little larger than the tokenizer, as that of PaliGemma."""


def main() -> int:
    args = build_parser(__doc__, rounds=5).parse_args()
    vocabulary = 1500 if args.quick else VOCABULARY
    tokenizer = build_tokenizer(vocabulary)
    started = time.process_time()
    compile_json_grammar(tokenizer, GRAMMAR)
    compiled = time.process_time() - started
    rounds = 1 if args.quick else args.rounds
    rows = list(run_cases(tokenizer, args.device, rounds, quick=args.quick))
    answers = 5 if args.quick else 1000
    malformed = count_malformed(random_constrained_answers(tokenizer, answers, seed=0))
    notes = [
        f"Malformed: {malformed} of {answers:,} constrained answers to random scores.",
        f"Compiling the grammar for {vocabulary:,} pieces: {compiled:.1f} CPU s, once per process.",
    ]
    status = finish(rows, args.output, notes, check=args.check)
    return status or int(malformed > 0)


def run_cases(tokenizer: Any, device: str, rounds: int, *, quick: bool) -> Iterator[BenchmarkRow]:
    """Time answers of one prompt and of several at once."""
    size = SIZES["quick" if quick else "vocabulary"]
    size = replace(size, vocabulary=len(tokenizer) + ADDED_TOKENS, side=56)
    with tempfile.TemporaryDirectory() as name:
        model = Ours(save_random_model(size, Path(name)), device, Dtype.fp32)
    for count in (1, 2 if quick else 8):
        prompts = synthetic_prompts(size, count, 1, device)
        sides = (Side(model, tokenizer, prompts, constrained=flag) for flag in (True, False))
        constrained, free = sides
        yield compare(
            f"constrained / free JSON, batch of {count}",
            constrained,
            free,
            0 if quick else 1 / MAX_SLOWDOWN,
            rounds,
            find_difference=_difference,
        )


class Side:
    """Decoding with or without the constraint; every call has other receipts."""

    def __init__(self, model: Ours, tokenizer: Any, prompts: Any, *, constrained: bool) -> None:
        self.model, self.tokenizer, self.prompts = model, tokenizer, prompts
        self.constrained, self.calls = constrained, 0

    def __call__(self) -> Generations:
        rows = len(self.prompts["input_ids"])
        answers = random_receipts(self.tokenizer, rows, seed=self.calls)
        self.calls += 1
        chosen = GivenAnswers(self.tokenizer, answers, constrained=self.constrained)
        limits = [len(answer) + 64 for answer in answers]
        search = GreedySearch(rows, self.tokenizer.eos_token_id, limits, chosen)
        decoder = decoder_class(self.model.model.device, cuda_graphs=False)
        with torch.inference_mode():
            return generate_tokens(self.model.model, self.prompts, search, decoder)


def _difference(constrained: Generations, free: Generations) -> str | None:
    pairs = zip(constrained, free, strict=True)
    differing = sum(one.token_ids != other.token_ids for one, other in pairs)
    return f"{differing} answers differ" if differing else None


def count_malformed(texts: Iterator[str]) -> int:
    """Return how many texts are not JSON of the declared fields, without any repair."""
    task = Json(fields=DECLARED)
    return sum(bool(task.repairs(text)) or not isinstance(json.loads(text), dict) for text in texts)


if __name__ == "__main__":
    sys.exit(main())
