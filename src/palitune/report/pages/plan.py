"""Report of a training plan: memory, time, settings that fit, released models; `plan.json`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palitune.distributed.terminal import print_line
from palitune.planning.alternatives import TrainingEstimate
from palitune.planning.measurements import MeasuredStep
from palitune.planning.plan import CalibrationResult, PlanReport
from palitune.report.run_writer import write_json
from palitune.report.tables import Cell, TextTable

GIB, MIB = 2**30, 2**20
DEVICE_NAMES = {"cuda": "GPU", "cpu": "CPU"}


def write_plan_report(
    folder: Path, plan_report: PlanReport, calibration: CalibrationResult | None
) -> None:
    """Write `plan.json` and print the plan."""
    from rich import print as print_rich

    write_json(folder / "plan.json", plan_to_json(plan_report, calibration))
    print_rich(_memory_table(plan_report).to_rich())
    for sentence in summary_lines(plan_report):
        print_line(sentence)
    if plan_report.measurements:
        print_rich(_measurements_table(plan_report.measurements).to_rich())
    print_rich(_alternatives_table(plan_report).to_rich())
    if plan_report.released_models:
        print_rich(_released_models_table(plan_report).to_rich())
    if calibration:
        print_line(calibration_sentence(calibration))
    print_line(f"plan: {folder / 'plan.json'}")


def plan_to_json(plan_report: PlanReport, calibration: CalibrationResult | None) -> dict[str, Any]:
    """Return the plan as JSON; sizes are in bytes."""
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
        "neighbours": [_alternative_to_json(plan) for plan in plan_report.alternatives],
        "released": [
            {
                "model": cell.model,
                "resolution": cell.resolution,
                **_alternative_to_json(cell.estimate),
            }
            for cell in plan_report.released_models
        ],
        "evaluation": {
            "batch_size": plan_report.evaluation.batch_size,
            "peak": plan_report.evaluation.peak.total_bytes,
            "parts": plan_report.evaluation.peak.breakdown,
            "largest_batch": plan_report.evaluation.max_batch_size,
        },
        "measurements": [asdict(step) for step in plan_report.measurements],
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
    """Yield sentences about assumptions, time and memory of the run."""
    gpu, workload, speed = plan_report.gpu, plan_report.workload, plan_report.estimate.speed
    if plan_report.device == "cuda":
        known = "measured steps follow" if plan_report.measurements else "none was measured"
        yield f"Memory and time on the {gpu.name} are predicted; {known}."
    yield f"Lengths and counts: {workload.source}."
    limit = "launches" if speed.step_seconds == speed.launch_seconds else "products and memory"
    yield (
        f"Step: {speed.step_tflop:.3g} TFLOP, predicted {speed.step_seconds:.3g} s (products "
        f"{speed.compute_seconds:.3g} s at {gpu.mfu:.0%} of the peak, memory traffic "
        f"{speed.traffic_seconds:.3g} s, kernel launches {speed.launch_seconds:.3g} s in parallel; "
        f"limited by {limit}), {speed.samples_per_second:.3g} samples/s."
    )
    if host_bytes := plan_report.estimate.peak.host_bytes:
        yield f"Offloaded activations: {host_bytes / GIB:.3g} GiB of host memory."
    if speed.hours is None:
        yield "Run: the number of examples is unknown. Set examples=N or training.max_steps=N."
    else:
        yield f"Run: {speed.steps} steps, {format_duration(speed.hours)}, without evaluations."
    cache = f"Vision cache: {plan_report.cache_entry_bytes / MIB:.2f} MiB per image"
    if workload.images:
        size = workload.images * plan_report.cache_entry_bytes / GIB
        cache += f", {size:.2f} GiB for {workload.images} images"
    yield f"{cache} (only with training.vision_feature_cache)."
    verdict = "fits" if plan_report.estimate.fits else "does not fit"
    yield (
        f"The run {verdict} in {gpu.memory:g} GiB; the largest micro-batch that fits is "
        f"{plan_report.estimate.max_micro_batch_size or 'none'}."
    )
    yield evaluation_sentence(plan_report)


def evaluation_sentence(plan_report: PlanReport) -> str:
    """Describe the memory of an evaluation and the batch that it will use."""
    evaluation, memory = plan_report.evaluation, plan_report.gpu.memory
    sentence = (
        f"Evaluation: predicted {evaluation.peak.total_bytes / GIB:.1f} GiB with "
        f"evaluation.batch_size={evaluation.batch_size}"
    )
    if evaluation.max_batch_size >= evaluation.batch_size:
        return f"{sentence}, which fits."
    if not evaluation.max_batch_size:
        return f"{sentence}; no batch fits in {memory:g} GiB."
    return (
        f"{sentence}, which does not fit; it will be lowered. Set "
        f"evaluation.batch_size={evaluation.max_batch_size}."
    )


def calibration_sentence(calibration: CalibrationResult) -> str:
    """Compare predicted and measured memory."""
    measured, device = calibration.measured, calibration.device
    return (
        f"Measured on this {DEVICE_NAMES[device]} with the longest examples: a step needs "
        f"{measured.step / MIB:.1f} MiB, predicted {calibration.predicted.step_bytes / MIB:.1f} "
        f"({calibration.relative_error:+.1%}); weights {measured.weights / MIB:.1f} MiB, predicted "
        f"{calibration.predicted_weight_bytes / MIB:.1f}; time {measured.seconds:.2f} s."
    )


def _memory_table(plan_report: PlanReport) -> TextTable:
    from rich.text import Text

    peak = plan_report.estimate.peak
    rows: list[tuple[Cell, Cell]] = [
        (part, f"{size / GIB:.3f}") for part, size in peak.breakdown.items() if size
    ]
    total = f"{peak.total_bytes / GIB:.3f}"
    return TextTable(
        ("memory", "GiB"),
        [*rows, (Text("peak", "bold"), Text(total, "bold"))],
        note=f"predicted for one {DEVICE_NAMES[plan_report.device]}; peak during: {peak.phase}",
        title=f"{plan_report.micro_batch_size} examples of {plan_report.seq_len} tokens",
    )


def _measurements_table(steps: Sequence[MeasuredStep]) -> TextTable:
    rows: list[tuple[Cell, ...]] = [
        (
            step.line,
            f"{step.peak_gib:.1f}",
            f"{step.samples_per_second:.3g}",
            "–" if step.stock_ratio is None else f"{step.stock_ratio:.2f}x",
        )
        for step in steps
    ]
    return TextTable(
        ("model, adapter, rows", "GiB", "1/s", "against PEFT"),
        rows,
        note="random weights; prompts of 32 and answers of 16 tokens; benchmarks/gpu.py",
        title=f"Measured on {steps[0].device}",
    )


def _alternatives_table(plan_report: PlanReport) -> TextTable:
    rows = [
        (
            plan.overrides.replace(" ", "\n"),
            _peak_cell(plan),
            str(plan.max_micro_batch_size or "none"),
            f"{plan.speed.step_seconds:.3g}",
            "–" if plan.speed.hours is None else format_duration(plan.speed.hours),
        )
        for plan in plan_report.alternatives
    ]
    return TextTable(
        ("settings", "GiB", "batch", "s/step", "run"),
        rows,
        note="batch: largest micro-batch that fits",
        title=f"Alternatives for {plan_report.gpu.memory:g} GiB, predicted",
    )


def _released_models_table(plan_report: PlanReport) -> TextTable:
    """Return a row per model and resolution, with bf16 LoRA and QLoRA side by side."""
    cells = iter(plan_report.released_models)
    rows = [
        (
            f"{plain.model} {plain.resolution} px",
            *_fit_cells(plain.estimate),
            *_fit_cells(qlora.estimate),
        )
        for plain, qlora in zip(cells, cells, strict=True)
    ]
    return TextTable(
        ("model", "LoRA GiB", "batch", "1/s", "QLoRA GiB", "batch", "1/s"),
        rows,
        note="bf16, predicted; batch: largest micro-batch that fits; 1/s: samples per second",
        title=f"Released models, micro-batch {plan_report.micro_batch_size}, same other settings",
    )


def _fit_cells(plan: TrainingEstimate) -> tuple[Cell, Cell, Cell]:
    largest = str(plan.max_micro_batch_size or "none")
    return _peak_cell(plan), largest, f"{plan.speed.samples_per_second:.3g}"


def format_duration(hours: float) -> str:
    """Format a duration in a suitable unit: `3.2 h`, `40 min`, `5 s`."""
    for unit, size in (("h", 1.0), ("min", 60.0)):
        if hours * size >= 1:
            return f"{hours * size:.3g} {unit}"
    return f"{hours * 3600:.0f} s"


def _peak_cell(plan: TrainingEstimate) -> Cell:
    """Return the peak memory in GiB, red in the terminal if it does not fit."""
    from rich.text import Text

    return Text(f"{plan.peak.total_bytes / GIB:.1f}", "" if plan.fits else "red")
