"""Benchmark of peak memory of a training step and an attention layer, compared with transformers.

    OMP_NUM_THREADS=1 python benchmarks/memory.py --check --output benchmarks/memory

Each side of a line runs in its own process. The value is the peak resident memory during the step
(on CUDA: the peak allocated memory) minus the memory before it, so weights are not included. Both
sides have the same weights and inputs; a line has no ratio if the results differ by more than 1e-5.
The step uses a small model with PaliGemma's vocabulary; the attention layer has the head sizes of
PaliGemma 2 3B and 4,200 tokens, as at 896 px. `--quick` runs one round on a toy model.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from pathlib import Path

import torch

from palitune.models.config import Dtype

from harness.options import build_parser
from harness.paired_timing import BenchmarkRow, Result, difference, finish, mismatch_row, summarize
from harness.training_steps import SIZES, Ours, Stock, save_random_model, synthetic_batch

ROWS = 4
HEADS, KEY_HEADS, HEAD_WIDTH, SOFTCAP = 8, 4, 256, 50.0
TOKENS, QUICK_TOKENS = 4200, 300
SUFFIX = 104
"""Causal tokens at the end, after image and prompt."""

# The imports are done once, in the server from which all processes are forked.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["__main__", "peft", "transformers.models.paligemma", "transformers.models.gemma2"]
)


def main() -> int:
    args = build_parser(__doc__, rounds=3).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        save_random_model(SIZES["quick" if args.quick else "vocabulary"], Path(folder))
        rows = [
            compare_peaks(
                "step", "step, vocabulary 257,216 / forward(labels)", 15, Path(folder), args
            ),
            compare_peaks(
                "attention",
                "attention layer, 4,200 tokens, soft-cap / eager",
                8,
                Path(folder),
                args,
            ),
        ]
    return finish(rows, args.output, check=args.check)


def compare_peaks(
    case: str, name: str, goal: float, folder: Path, args: argparse.Namespace
) -> BenchmarkRow:
    """Run both sides alternately, each in its own process, and compare their peak memory."""
    peaks: list[tuple[float, float]] = []
    for _ in range(1 if args.quick else args.rounds):
        for side in ("ours", "theirs"):
            process = PROCESSES.Process(
                target=measure_peak, args=(case, side, folder, args.device, args.quick)
            )
            process.start()
            process.join()
            if process.exitcode != 0:
                raise RuntimeError(f"{case}, {side}: no result, exit code {process.exitcode}")
        ours, theirs = (torch.load(folder / f"{case}-{side}.pt") for side in ("ours", "theirs"))
        if error := difference(ours["result"], theirs["result"]):
            return mismatch_row(name, error, goal)
        peaks.append((ours["peak"], theirs["peak"]))
    return summarize(name, "MiB", peaks, goal)


def measure_peak(case: str, side: str, folder: Path, device: str, quick: bool) -> None:
    """Measure a step after a small one that initializes the libraries."""
    if case == "step":
        size = SIZES["quick" if quick else "vocabulary"]
        network = (Ours if side == "ours" else Stock)(folder, device, Dtype.fp32)
        network.step(synthetic_batch(size, 1, 1, device))
        network.network.zero_grad(set_to_none=True)
        batch = synthetic_batch(size, ROWS, 1, device)
        before = reset_peak_memory()
        result = network.step(batch)
    else:
        run_attention(side, *attention_inputs(64, device))
        inputs = attention_inputs(QUICK_TOKENS if quick else TOKENS, device)
        before = reset_peak_memory()
        result = run_attention(side, *inputs)
    peak = peak_memory_mib() - before
    torch.save({"peak": peak, "result": result}, folder / f"{case}-{side}.pt")


def attention_inputs(tokens: int, device: str) -> tuple[torch.Tensor, ...]:
    """Return query, key, value and the mask of a prefix with a causal suffix."""
    torch.manual_seed(0)
    shapes = (HEADS, KEY_HEADS, KEY_HEADS)
    heads = [torch.randn(1, count, tokens, HEAD_WIDTH, device=device) for count in shapes]
    index = torch.arange(tokens, device=device)
    mask = (index < tokens - min(SUFFIX, tokens // 2)) | (index <= index[:, None])
    return *(tensor.requires_grad_() for tensor in heads), mask[None, None]


def run_attention(
    side: str, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
) -> Result:
    """Run forward and backward passes through one attention layer."""
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    from palitune.models.attention import chunked_attention

    layer = torch.nn.Module()
    layer.num_key_value_groups = HEADS // KEY_HEADS
    if side == "ours":
        kernel = chunked_attention
    else:
        kernel = eager_attention_forward
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(
            ~mask, torch.finfo(torch.float32).min
        )
    output, _ = kernel(layer, query, key, value, mask, scaling=HEAD_WIDTH**-0.5, softcap=SOFTCAP)
    loss = output.square().mean()
    del output
    loss.backward()
    gradients = {"query": query.grad, "key": key.grad, "value": value.grad}
    return float(loss.detach()), gradients


def reset_peak_memory() -> float:
    """Reset the peak and return the current memory in MiB."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 2**20
    Path("/proc/self/clear_refs").write_text("5")
    return read_proc_status("VmRSS")


def peak_memory_mib() -> float:
    """Return the peak memory since the last reset in MiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return read_proc_status("VmHWM")


def read_proc_status(entry: str) -> float:
    """Return an entry of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{entry}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("peak memory requires /proc/self/status with VmRSS and VmHWM (Linux)")


if __name__ == "__main__":
    sys.exit(main())
