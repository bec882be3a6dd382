"""Show a plan: memory by part, time, what fits, all released models; `plan.json`."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.planning.choices import Plan
from palitune.planning.planned import Calibrated, Planned
from palitune.report.writing import write_json

if TYPE_CHECKING:
    from rich.table import Table

GIB, MIB = 2**30, 2**20
DEVICES = {"cuda": "GPU", "cpu": "CPU"}


def show_plan(folder: Path, planned: Planned, calibrated: Calibrated | None) -> None:
    """Write `plan.json` and tell the plan in the terminal."""
    from rich import print as show
    from rich.markup import escape

    write_json(folder / "plan.json", content(planned, calibrated))
    show(_memory(planned))
    for sentence in sentences(planned):
        show(escape(sentence))
    show(_neighbours(planned))
    if planned.released:
        show(_released(planned))
    if calibrated:
        for sentence in calibration_sentences(calibrated):
            show(escape(sentence))
    show(f"plan: {folder / 'plan.json'}")


def content(planned: Planned, calibrated: Calibrated | None) -> dict[str, Any]:
    """Return the plan as data; sizes are bytes."""
    return {
        "device": planned.device,
        "gpu": asdict(planned.gpu),
        "rows": asdict(planned.workload) | {"tokens": planned.tokens},
        "micro_batch_size": planned.micro_batch,
        "trained": planned.trained,
        "run": _plan(planned.plan),
        "vision_cache": {
            "entry": planned.cache_entry,
            "all": planned.workload.images and planned.workload.images * planned.cache_entry,
        },
        "neighbours": [_plan(one) for one in planned.neighbours],
        "released": [
            {"model": cell.model, "resolution": cell.resolution, **_plan(cell.plan)}
            for cell in planned.released
        ],
        "calibration": calibrated and _calibration(calibrated),
    }


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "overrides": plan.words,
        "peak": plan.peak.total,
        "moment": plan.peak.moment,
        "parts": plan.peak.parts,
        **asdict(plan.speed),
        "fits": plan.fits,
        "largest_micro_batch": plan.largest_micro_batch,
    }


def _calibration(calibrated: Calibrated) -> dict[str, Any]:
    return {
        "device": calibrated.device,
        "predicted": {
            "weights": calibrated.predicted_weights,
            "step": calibrated.predicted.step,
            "moment": calibrated.predicted.moment,
            "parts": calibrated.predicted.parts,
        },
        "measured": asdict(calibrated.measured),
        "error": calibrated.error,
    }


def sentences(planned: Planned) -> Iterator[str]:
    """Say what the numbers rest on, and how long the run takes."""
    gpu, workload, speed = planned.gpu, planned.workload, planned.plan.speed
    if planned.device == "cuda":
        yield "All figures of a GPU are predictions; none was measured on one."
    yield f"Counted with: {workload.source}."
    yield (
        f"Step: {speed.step_tflop:.3g} TFLOP, {speed.step_seconds:.3g} s at {gpu.mfu:.0%} of "
        f"{gpu.tflops:g} TFLOP/s, {speed.samples_per_second:.3g} samples/s."
    )
    if speed.hours is None:
        yield "Run: the number of examples is unknown; examples=N or training.max_steps=N tells it."
    else:
        yield f"Run: {speed.steps} steps, {duration(speed.hours)}, evaluations not counted."
    cache = f"Vision cache: {planned.cache_entry / MIB:.2f} MiB an image"
    if workload.images:
        cache += f", {workload.images * planned.cache_entry / GIB:.2f} GiB for {workload.images}"
    yield f"{cache}, if training.vision_cache is set."
    verdict = "fits" if planned.plan.fits else "does not fit"
    yield (
        f"It {verdict} in {gpu.memory:g} GiB; the largest micro-batch that does is "
        f"{planned.plan.largest_micro_batch or 'none'}."
    )


def calibration_sentences(calibrated: Calibrated) -> Iterator[str]:
    """Set prediction and measurement side by side."""
    measured, device = calibrated.measured, calibrated.device
    yield (
        f"Measured on this {DEVICES[device]} with the longest rows: the step takes "
        f"{measured.step / MIB:.1f} MiB, predicted were {calibrated.predicted.step / MIB:.1f} "
        f"({calibrated.error:+.1%}); weights {measured.weights / MIB:.1f} MiB, predicted "
        f"{calibrated.predicted_weights / MIB:.1f}; it took {measured.seconds:.2f} s."
    )


def _memory(planned: Planned) -> "Table":
    from rich.table import Table

    peak = planned.plan.peak
    table = Table(
        title=f"{planned.micro_batch} rows of {planned.tokens} tokens",
        caption=f"on one {DEVICES[planned.device]}; highest: {peak.moment}",
    )
    table.add_column("memory")
    table.add_column("GiB", justify="right")
    for part, size in peak.parts.items():
        if size:
            table.add_row(part, f"{size / GIB:.3f}")
    table.add_section()
    table.add_row("peak", f"{peak.total / GIB:.3f}", style="bold")
    return table


def _neighbours(planned: Planned) -> "Table":
    from rich.table import Table

    table = Table(
        title=f"What fits in {planned.gpu.memory:g} GiB",
        caption="rows: the largest micro-batch that fits",
    )
    table.add_column("instead")
    for name in ("GiB", "rows", "s/step", "run"):
        table.add_column(name, justify="right")
    for plan in planned.neighbours:
        hours = plan.speed.hours
        table.add_row(
            plan.words.replace(" ", "\n"),
            _gib(plan),
            str(plan.largest_micro_batch or "none"),
            f"{plan.speed.step_seconds:.3g}",
            "–" if hours is None else duration(hours),
        )
    return table


def _released(planned: Planned) -> "Table":
    """A row per model and resolution; bf16 LoRA and QLoRA side by side."""
    from rich.table import Table

    table = Table(
        title=f"Released models, micro-batch {planned.micro_batch}, other settings alike",
        caption="bf16; rows: the largest micro-batch that fits; 1/s: samples per second",
    )
    table.add_column("model")
    table.add_column("px", justify="right")
    for name in ("LoRA GiB", "rows", "1/s", "QLoRA GiB", "rows", "1/s"):
        table.add_column(name, justify="right")
    cells = iter(planned.released)
    for plain, quantized in zip(cells, cells, strict=True):
        table.add_row(
            plain.model,
            str(plain.resolution),
            *(text for cell in (plain, quantized) for text in _fit(cell.plan)),
        )
    return table


def _fit(plan: Plan) -> tuple[str, str, str]:
    largest = str(plan.largest_micro_batch or "none")
    return _gib(plan), largest, f"{plan.speed.samples_per_second:.3g}"


def duration(hours: float) -> str:
    """Write a time in the unit that suits it: `3.2 h`, `40 min`, `5 s`."""
    for unit, size in (("h", 1.0), ("min", 60.0)):
        if hours * size >= 1:
            return f"{hours * size:.3g} {unit}"
    return f"{hours * 3600:.0f} s"


def _gib(plan: Plan) -> str:
    text = f"{plan.peak.total / GIB:.1f}"
    return text if plan.fits else f"[red]{text}[/red]"
