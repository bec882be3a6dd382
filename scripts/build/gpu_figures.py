"""Write the GPU figures of the README: measured ones from benchmarks/results, predicted ones by the
planner.

    python scripts/build/gpu_figures.py
"""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from palitune.models.adapters.config import Lora
from palitune.models.config import PaliGemma2
from palitune.planning.alternatives import estimate_released_models
from palitune.planning.gpus import planned_gpu
from palitune.planning.measurements import MeasuredStep, load_measurements
from palitune.planning.workload import AssumedLengths, measure_workload
from palitune.training.config import TrainingConfig

README = Path(__file__).parents[2] / "README.md"
START, END = "<!-- GPU figures -->\n", "<!-- end of GPU figures -->\n"
SUFFIX_TOKENS = 64


def gpu_figures(measured: list[MeasuredStep]) -> str:
    """Return the Markdown of all GPU figures; it says which are measured and on what."""
    return f"{_measured_part(measured)}\n{_predicted_table()}"


def _measured_part(measured: list[MeasuredStep]) -> str:
    command = "`python benchmarks/gpu.py`"
    if not measured:
        return (
            f"**No figure was measured on a GPU so far.** {command} measures one in about ten "
            "minutes\nwith random weights and writes a table with the card's name. Until then this "
            "is *predicted*, by\n`palitune plan`, for PaliGemma 2, micro-batch 1, checkpointing, "
            f"answers of {SUFFIX_TOKENS} tokens (GiB):\n"
        )
    tables = [_measured_table(card, steps) for card, steps in groupby(measured, lambda s: s.device)]
    return "\n".join(tables) + (
        f"\n*Measured* by {command} with random weights. *Predicted* by `palitune plan`, for\n"
        f"PaliGemma 2, micro-batch 1, checkpointing, answers of {SUFFIX_TOKENS} tokens (GiB):\n"
    )


def _measured_table(card: str, steps: Iterable[MeasuredStep]) -> str:
    lines = [
        f"| {card} | samples/s | peak GiB | against transformers with PEFT |",
        "|---|---|---|---|",
    ]
    for step in steps:
        ratio = "" if step.stock_ratio is None else f"{step.stock_ratio:.2f}x as fast"
        lines.append(
            f"| {step.line} | {step.samples_per_second:.3g} | {step.peak_gib:.1f} | {ratio} |"
        )
    return "\n".join(lines) + "\n"


def _predicted_table() -> str:
    training = TrainingConfig(micro_batch_size=1, gradient_checkpointing=True)
    assumed = AssumedLengths(None, SUFFIX_TOKENS, None)
    workload = measure_workload(None, None, PaliGemma2(), training, assumed)
    gpu = planned_gpu("H100", None, None, None, mfu=0.4)
    options = [
        option
        for option in estimate_released_models(Lora(), training, workload, gpu)
        if option.model.startswith("paligemma2")
    ]
    sizes = list(dict.fromkeys(option.model.split()[1] for option in options))
    names = [f"{size.upper()}, {adapter}" for size in sizes for adapter in ("LoRA", "QLoRA")]
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for resolution in dict.fromkeys(option.resolution for option in options):
        peaks = [
            f"{option.estimate.peak.total_bytes / 2**30:.1f}"
            for option in options
            if option.resolution == resolution
        ]
        lines.append(f"| {resolution} px | {' | '.join(peaks)} |")
    return "\n".join(lines) + "\n"


def readme_with(figures: str, text: str) -> str:
    """Return the README with the text between the two markers replaced."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}{figures}{END}{after}"


if __name__ == "__main__":
    README.write_text(
        readme_with(gpu_figures(load_measurements()), README.read_text(encoding="utf-8")),
        encoding="utf-8",
    )
