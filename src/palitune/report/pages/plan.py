"""Show a plan: memory by part, time, what fits, all released models; `plan.json`."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palitune.planning.alternatives import TrainingEstimate
from palitune.planning.plan import CalibrationResult, PlanReport
from palitune.report.run_writer import write_json

if TYPE_CHECKING:
    from rich.table import Table

GIB, MIB = 2**30, 2**20
DEVICE_NAMES = {"cuda": "GPU", "cpu": "CPU"}


def write_plan_report(
    folder: Path, plan_report: PlanReport, calibration: CalibrationResult | None
) -> None:
    """Write `plan.json` and tell the plan in the terminal."""
    from rich import print as show
    from rich.markup import escape

    write_json(folder / "plan.json", plan_to_json(plan_report, calibration))
    show(_memory_table(plan_report))
    for sentence in summary_lines(plan_report):
        show(escape(sentence))
    show(_alternatives_table(plan_report))
    if plan_report.released_models:
        show(_released_models_table(plan_report))
    if calibration:
        for sentence in calibration_lines(calibration):
            show(escape(sentence))
    show(f"plan: {folder / 'plan.json'}")


def plan_to_json(plan_report: PlanReport, calibration: CalibrationResult | None) -> dict[str, Any]:
    """Return the plan as data; sizes are bytes."""
    return {
        "device": plan_report.device,
        "gpu": asdict(plan_report.gpu),
        "rows": asdict(plan_report.workload) | {"tokens": plan_report.seq_len},
        "micro_batch_size": plan_report.micro_batch_size,
        "trained": plan_report.num_trainable_parameters,
        "run": _alternative_to_json(plan_report.estimate),
        "vision_cache": {
            "entry": plan_report.cache_entry_bytes,
            "all": plan_report.workload.images
            and plan_report.workload.images * plan_report.cache_entry_bytes,
        },
        "neighbours": [_alternative_to_json(one) for one in plan_report.alternatives],
        "released": [
            {
                "model": cell.model,
                "resolution": cell.resolution,
                **_alternative_to_json(cell.estimate),
            }
            for cell in plan_report.released_models
        ],
        "calibration": calibration and _calibration_to_json(calibration),
    }


def _alternative_to_json(plan: TrainingEstimate) -> dict[str, Any]:
    return {
        "overrides": plan.overrides,
        "peak": plan.peak.total_bytes,
        "moment": plan.peak.phase,
        "parts": plan.peak.breakdown,
        **asdict(plan.speed),
        "fits": plan.fits,
        "largest_micro_batch": plan.max_micro_batch_size,
    }


def _calibration_to_json(calibration: CalibrationResult) -> dict[str, Any]:
    return {
        "device": calibration.device,
        "predicted": {
            "weights": calibration.predicted_weight_bytes,
            "step": calibration.predicted.step_bytes,
            "moment": calibration.predicted.phase,
            "parts": calibration.predicted.breakdown,
        },
        "measured": asdict(calibration.measured),
        "error": calibration.relative_error,
    }


def summary_lines(plan_report: PlanReport) -> Iterator[str]:
    """Say what the numbers rest on, and how long the run takes."""
    gpu, workload, speed = plan_report.gpu, plan_report.workload, plan_report.estimate.speed
    if plan_report.device == "cuda":
        yield "All figures of a GPU are predictions; none was measured on one."
    yield f"Counted with: {workload.source}."
    yield (
        f"Step: {speed.step_tflop:.3g} TFLOP, {speed.step_seconds:.3g} s at {gpu.mfu:.0%} of "
        f"{gpu.tflops:g} TFLOP/s, {speed.samples_per_second:.3g} samples/s."
    )
    if speed.hours is None:
        yield "Run: the number of examples is unknown; examples=N or training.max_steps=N tells it."
    else:
        yield f"Run: {speed.steps} steps, {format_duration(speed.hours)}, evaluations not counted."
    cache = f"Vision cache: {plan_report.cache_entry_bytes / MIB:.2f} MiB an image"
    if workload.images:
        cache += f", {workload.images * plan_report.cache_entry_bytes / GIB:.2f} GiB for {workload.images}"
    yield f"{cache}, if training.vision_feature_cache is set."
    verdict = "fits" if plan_report.estimate.fits else "does not fit"
    yield (
        f"It {verdict} in {gpu.memory:g} GiB; the largest micro-batch that does is "
        f"{plan_report.estimate.max_micro_batch_size or 'none'}."
    )


def calibration_lines(calibration: CalibrationResult) -> Iterator[str]:
    """Set prediction and measurement side by side."""
    measured, device = calibration.measured, calibration.device
    yield (
        f"Measured on this {DEVICE_NAMES[device]} with the longest rows: the step takes "
        f"{measured.step / MIB:.1f} MiB, predicted were {calibration.predicted.step_bytes / MIB:.1f} "
        f"({calibration.relative_error:+.1%}); weights {measured.weights / MIB:.1f} MiB, predicted "
        f"{calibration.predicted_weight_bytes / MIB:.1f}; it took {measured.seconds:.2f} s."
    )


def _memory_table(plan_report: PlanReport) -> "Table":
    from rich.table import Table

    peak = plan_report.estimate.peak
    table = Table(
        title=f"{plan_report.micro_batch_size} rows of {plan_report.seq_len} tokens",
        caption=f"on one {DEVICE_NAMES[plan_report.device]}; highest: {peak.phase}",
    )
    table.add_column("memory")
    table.add_column("GiB", justify="right")
    for part, size in peak.breakdown.items():
        if size:
            table.add_row(part, f"{size / GIB:.3f}")
    table.add_section()
    table.add_row("peak", f"{peak.total_bytes / GIB:.3f}", style="bold")
    return table


def _alternatives_table(plan_report: PlanReport) -> "Table":
    from rich.table import Table

    table = Table(
        title=f"What fits in {plan_report.gpu.memory:g} GiB",
        caption="rows: the largest micro-batch that fits",
    )
    table.add_column("instead")
    for name in ("GiB", "rows", "s/step", "run"):
        table.add_column(name, justify="right")
    for plan in plan_report.alternatives:
        hours = plan.speed.hours
        table.add_row(
            plan.overrides.replace(" ", "\n"),
            _format_peak(plan),
            str(plan.max_micro_batch_size or "none"),
            f"{plan.speed.step_seconds:.3g}",
            "–" if hours is None else format_duration(hours),
        )
    return table


def _released_models_table(plan_report: PlanReport) -> "Table":
    """A row per model and resolution; bf16 LoRA and QLoRA side by side."""
    from rich.table import Table

    table = Table(
        title=f"Released models, micro-batch {plan_report.micro_batch_size}, other settings alike",
        caption="bf16; rows: the largest micro-batch that fits; 1/s: samples per second",
    )
    table.add_column("model")
    table.add_column("px", justify="right")
    for name in ("LoRA GiB", "rows", "1/s", "QLoRA GiB", "rows", "1/s"):
        table.add_column(name, justify="right")
    cells = iter(plan_report.released_models)
    for plain, quantized in zip(cells, cells, strict=True):
        table.add_row(
            plain.model,
            str(plain.resolution),
            *(text for cell in (plain, quantized) for text in _fit_cells(cell.estimate)),
        )
    return table


def _fit_cells(plan: TrainingEstimate) -> tuple[str, str, str]:
    largest = str(plan.max_micro_batch_size or "none")
    return _format_peak(plan), largest, f"{plan.speed.samples_per_second:.3g}"


def format_duration(hours: float) -> str:
    """Write a time in the unit that suits it: `3.2 h`, `40 min`, `5 s`."""
    for unit, size in (("h", 1.0), ("min", 60.0)):
        if hours * size >= 1:
            return f"{hours * size:.3g} {unit}"
    return f"{hours * 3600:.0f} s"


def _format_peak(plan: TrainingEstimate) -> str:
    text = f"{plan.peak.total_bytes / GIB:.1f}"
    return text if plan.fits else f"[red]{text}[/red]"
