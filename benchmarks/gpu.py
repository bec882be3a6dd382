"""Benchmark of a GPU: training, attention, generation, evaluation and export at the real sizes.

    python benchmarks/gpu.py                        # about ten minutes on one card
    python benchmarks/gpu.py --part finetune --full # one part, all sizes and resolutions
    python benchmarks/gpu.py --dry                  # a toy model on a CPU: a trial of this program

The models have random weights and the sizes of the released ones; nothing is downloaded. Each line
is measured in a process of its own, so that one that runs out of memory or crashes is reported and
the next one starts clean. Lines that compare run ours and transformers with PEFT in turns, on the
same weights and batch. The table and a JSON file are named after the card, and README and planner
read their figures from such files.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from harness import attention_layers, gpu_cases
from harness.gpu_cases import Values
from harness.gpu_table import GpuRow, write_tables
from harness.random_checkpoints import TINY, CheckpointSize, write_random_checkpoint

RESULTS = Path(__file__).parent / "results"
CASE_SECONDS = 300
"""Limit of one measurement; a longer one is reported as such."""


@dataclass(frozen=True)
class Case:
    """One line: its measurements, which fill different columns."""

    part: str
    line: str
    measurements: tuple[tuple[Callable[..., Values], dict[str, Any]], ...]
    checkpoint: CheckpointSize | None = None
    """Checkpoint whose folder is passed to the measurements; None: they need none."""


@dataclass
class Plan:
    """Sizes of a benchmark run: real or toy, short or full."""

    device: str
    dry: bool
    full: bool
    folder: Path
    cases: list[Case] = field(default_factory=list)

    def checkpoint(self, family: str, size: str, resolution: int) -> CheckpointSize:
        """Return the checkpoint to measure, in a dry run a toy one of the same family."""
        if self.dry:
            return CheckpointSize(family, TINY, 56)
        return CheckpointSize(family, size, resolution)


def main() -> int:
    args = parse_arguments()
    device = "cpu" if args.dry else "cuda"
    if not args.dry and not torch.cuda.is_available():
        print("error: no GPU is visible to torch. Add --dry for a trial on a CPU.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        plan = Plan(device, args.dry, args.full, Path(scratch))
        rows = []
        for part in args.part or PARTS:
            for case in PARTS[part](plan):
                row = measure(case, plan)
                print(row.summary(), flush=True)
                rows.append(row)
    write_tables(rows, args.output or RESULTS)
    return int(args.dry and any(row.error for row in rows))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", action="append", choices=list(PARTS), help="run only this part")
    parser.add_argument("--full", action="store_true", help="all sizes, resolutions and adapters")
    parser.add_argument("--dry", action="store_true", help="run a toy model on the CPU")
    parser.add_argument("--output", type=Path, help=f"folder of the tables (default: {RESULTS})")
    parser.add_argument("--scratch", type=Path, help="folder for the random checkpoints")
    return parser.parse_args()


def measure(case: Case, plan: Plan) -> GpuRow:
    """Run the measurements of a case, each in a process of its own; in this one in a dry run."""
    row = GpuRow(case.part, case.line)
    for function, arguments in case.measurements:
        if case.checkpoint is not None:
            path = write_random_checkpoint(case.checkpoint, plan.folder)
            arguments = {"folder": str(path), **arguments}
        run = run_directly if plan.dry else run_in_process
        outcome = run(function, arguments)
        if isinstance(outcome, str):
            row.error = f"{row.error}; {outcome}" if row.error else outcome
        else:
            row.values |= outcome
    return row


def run_in_process(function: Callable[..., Values], arguments: dict[str, Any]) -> Values | str:
    """Return the values of a measurement, or one line that says why there are none."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_and_send, args=(function, arguments, sender))
    process.start()
    sender.close()
    started = time.monotonic()
    try:
        if not receiver.poll(CASE_SECONDS):
            return f"no result within {CASE_SECONDS} s"
        outcome: Values | str = receiver.recv()
        return outcome
    except EOFError:
        process.join()
        seconds = time.monotonic() - started
        return f"the process ended with code {process.exitcode} after {seconds:.0f} s"
    finally:
        process.terminate()
        process.join()


def run_directly(function: Callable[..., Values], arguments: dict[str, Any]) -> Values | str:
    """Return the values of a measurement, or the error."""
    try:
        return function(**arguments)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _measure_and_send(
    function: Callable[..., Values], arguments: dict[str, Any], sender: Any
) -> None:
    try:
        sender.send(function(**arguments))
    except torch.OutOfMemoryError:
        sender.send("out of memory")
    except Exception as error:
        sender.send(f"{type(error).__name__}: {error}".splitlines()[0][:300])
        raise


def plan_tests(plan: Plan) -> Iterator[Case]:
    """The tests that need a GPU."""
    tests = Path(__file__).parents[1] / "tests" / "cuda"
    arguments = [str(tests), "-m", "cuda", "-p", "no:cacheprovider"]
    if plan.dry:
        arguments += ["--collect-only"]
    yield Case("tests", "tests/cuda", ((gpu_cases.run_tests, {"arguments": arguments}),))


def plan_finetune(plan: Plan) -> Iterator[Case]:
    """Training steps beside those of transformers and PEFT."""
    sizes = [("paligemma2", "3b", 224), ("paligemma2", "3b", 448), ("paligemma2", "3b", 896)]
    adapters = ["lora", "qlora"]
    if plan.dry:
        sizes = sizes[:1]
    elif plan.full:
        sizes = [("paligemma", "3b", 224), ("paligemma", "3b", 448), *sizes]
        sizes += [("paligemma2", "10b", 448), ("paligemma2", "28b", 448)]
        adapters += ["int8", "full"]
    for family, size, resolution in sizes:
        for adapter in adapters if size == "3b" else ["qlora"]:
            rows, checkpointing = _micro_batch(size, resolution)
            arguments = {
                "adapter": adapter,
                "rows": rows,
                "checkpointing": checkpointing,
                "steps": 2 if plan.dry else 8,
                "device": plan.device,
            }
            suffix = ", checkpointing" if checkpointing else ""
            checkpoint = plan.checkpoint(family, size, resolution)
            yield Case(
                "finetune",
                f"{family} {size} {resolution} px, {adapter}, {rows} rows{suffix}",
                (
                    (gpu_cases.measure_finetune, arguments),
                    (gpu_cases.measure_stock_finetune, arguments),
                ),
                checkpoint,
            )


def _micro_batch(size: str, resolution: int) -> tuple[int, bool]:
    """Return rows of a micro-batch, and whether layers are checkpointed."""
    rows = {224: 8, 448: 4, 896: 1}[resolution]
    return (rows, resolution == 896) if size == "3b" else (1, True)


def plan_attention(plan: Plan) -> Iterator[Case]:
    """One attention layer by every implementation."""
    lengths = (48,) if plan.dry else (304, 1072, 4144)
    for tokens in lengths:
        for softcap in (50.0, None):
            for implementation in attention_layers.attention_implementations(softcap):
                arguments = {
                    "implementation": implementation,
                    "tokens": tokens,
                    "softcap": softcap,
                    "device": plan.device,
                }
                kind = "PaliGemma 2" if softcap else "PaliGemma 1"
                yield Case(
                    "attention",
                    f"{kind}, {tokens} tokens, {implementation}",
                    ((gpu_cases.measure_attention, arguments),),
                )


def plan_generate(plan: Plan) -> Iterator[Case]:
    """Greedy generation beside `generate` of transformers."""
    for rows in (4,) if plan.dry else (16, 64):
        checkpoint = plan.checkpoint("paligemma2", "3b", 224)
        common = {"resolution": checkpoint.resolution, "rows": rows, "device": plan.device}
        yield Case(
            "generate",
            f"paligemma2 3b 224 px, {rows} prompts",
            tuple(
                (gpu_cases.measure_generation, {"side": side, **common})
                for side in ("ours", "graphs", "stock")
            ),
            checkpoint,
        )


def plan_evaluate(plan: Plan) -> Iterator[Case]:
    """Evaluation from image files to parsed answers."""
    for batch_size in (4,) if plan.dry else (16, 64):
        arguments = {
            "batch_size": batch_size,
            "samples": 8 if plan.dry else 256,
            "device": plan.device,
        }
        yield Case(
            "evaluate",
            f"paligemma2 3b 224 px, batches of {batch_size}",
            ((gpu_cases.measure_evaluation, arguments),),
            plan.checkpoint("paligemma2", "3b", 224),
        )


def plan_programs(plan: Plan) -> Iterator[Case]:
    """Whole programs one after another: finetune with QLoRA, then export of its adapter."""
    checkpoint = plan.checkpoint("paligemma2", "3b", 224)
    run, export = plan.folder / "run", plan.folder / "export"
    arguments = {
        "steps": 2 if plan.dry else 20,
        "run": str(run),
        "export": str(export),
        "device": plan.device,
    }
    yield Case(
        "programs",
        "palitune finetune, qlora 3b 224 px",
        ((gpu_cases.run_finetune, arguments),),
        checkpoint,
    )
    yield Case(
        "programs",
        "palitune export of that adapter",
        ((gpu_cases.run_export, arguments),),
        checkpoint,
    )


def plan_processes(plan: Plan) -> Iterator[Case]:
    """Two processes, by DDP and by FSDP, against one: the same losses."""
    if not plan.dry and torch.cuda.device_count() < 2:
        return
    for launch in ("ddp", "fsdp"):
        arguments = {"launch": launch, "folder": str(plan.folder), "device": plan.device}
        yield Case(
            "processes", f"{launch}, two processes", ((gpu_cases.compare_processes, arguments),)
        )


PARTS: dict[str, Callable[[Plan], Iterator[Case]]] = {
    "tests": plan_tests,
    "finetune": plan_finetune,
    "attention": plan_attention,
    "generate": plan_generate,
    "evaluate": plan_evaluate,
    "programs": plan_programs,
    "processes": plan_processes,
}

if __name__ == "__main__":
    sys.exit(main())
