"""Settings with which a run that ran out of memory is predicted to fit."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from palitune.data.sources.base import Data
from palitune.errors import DataError, ModelError
from palitune.evaluation.config import EvaluationConfig
from palitune.models.adapters.config import AdapterConfig, Initialization, Lora, Qlora
from palitune.models.config import Device, ModelConfig, Released
from palitune.models.device_memory import default_device_type, total_memory
from palitune.planning.alternatives import (
    RESOLUTIONS,
    find_max_micro_batch_size,
    largest_divisor,
    make_memory_context,
    with_resolution,
)
from palitune.planning.evaluation_memory import find_max_evaluation_batch_size
from palitune.planning.model_shapes import ModelShape, build_model_shape
from palitune.planning.peak_memory import peak_memory
from palitune.planning.static_memory import MemoryContext
from palitune.planning.workload import AssumedLengths, Workload, measure_workload
from palitune.tasks import Task
from palitune.training.config import TrainingConfig
from palitune.training.micro_batch_size import with_default_micro_batch_size

BUDGET_SHARE = 0.95
"""Share of the predicted peak of the failed run that an alternative may need: the prediction was
too low if it says that the run fits."""
GIB = 2**30


@dataclass(frozen=True)
class FailedRun:
    """The settings of a run that ran out of memory."""

    model: ModelConfig
    adapter: AdapterConfig
    training: TrainingConfig
    evaluation: EvaluationConfig
    data: Data | None
    task: Task | None
    trains: bool
    """Whether it is a training; otherwise it only generates."""


def describe_out_of_memory(run: FailedRun) -> str:
    """Return a sentence with the settings of the run and those that are predicted to fit."""
    device = "cpu" if run.model.device is Device.cpu else default_device_type()
    limit = total_memory(device)
    training = with_default_micro_batch_size(run.training)
    size = f"training.micro_batch_size={training.micro_batch_size}"
    if not run.trains:
        size = f"evaluation.batch_size={run.evaluation.batch_size}"
    failed = f"out of memory with {size} on a device of {limit / GIB:.1f} GiB"
    try:
        lengths = AssumedLengths(None, None, None)
        workload = measure_workload(run.data, run.task, run.model, training, lengths)
        shape = build_model_shape(run.model, run.adapter)
        run = replace(run, training=training)
        fitting = _fitting_settings(run, shape, workload, device, limit)
    except (DataError, ModelError) as error:
        return f"{failed}. Set a smaller one ({error})"
    if not fitting:
        return (
            f"{failed}; no micro-batch, checkpointing, adapter or resolution is predicted to fit. "
            "Set a smaller model.size or use a device with more memory."
        )
    return f"{failed}; predicted to fit: {'; or '.join(fitting)}"


def _fitting_settings(
    run: FailedRun, shape: ModelShape, workload: Workload, device: str, limit: int
) -> list[str]:
    if not run.trains:
        return list(_fitting_evaluations(run, shape, workload, device, limit))
    training = run.training
    context = make_memory_context(shape, run.model, run.adapter, training, device)
    failed = workload.longest_batch(shape, training.micro_batch_size)
    budget = min(limit, int(BUDGET_SHARE * peak_memory(context, failed).total_bytes))
    fitting = []
    for overrides, variant in _variants(shape, run, device):
        largest = find_max_micro_batch_size(variant, workload, budget)
        size = largest_divisor(training.global_batch_size, largest)
        if size >= training.micro_batch_size:
            fitting.append(overrides)
        elif size:
            fitting.append(f"{overrides} training.micro_batch_size={size}".strip())
    return fitting


def _fitting_evaluations(
    run: FailedRun, shape: ModelShape, workload: Workload, device: str, limit: int
) -> Iterator[str]:
    """Yield settings of an evaluation; at the end of a failed run its batch was one example."""
    beams = run.evaluation.num_beams
    for overrides, variant in _variants(shape, run, device):
        size = find_max_evaluation_batch_size(variant, workload, beams, limit)
        size = min(size, run.evaluation.batch_size)
        if size and overrides and "training." not in overrides:
            yield f"{overrides} evaluation.batch_size={size}"


def _variants(
    shape: ModelShape, run: FailedRun, device: str
) -> Iterator[tuple[str, MemoryContext]]:
    """Yield overrides, from the least to the most intrusive, and the run with them."""
    model, adapter, training = run.model, run.adapter, run.training
    checkpointed = replace(training, gradient_checkpointing=True)
    key = "" if training.gradient_checkpointing else "training.gradient_checkpointing=true"
    yield "", make_memory_context(shape, model, adapter, training, device)
    if key:
        yield key, make_memory_context(shape, model, adapter, checkpointed, device)
    if isinstance(adapter, Lora) and not isinstance(adapter, Qlora) and _can_quantize(adapter):
        qlora = Qlora(**vars(adapter))
        yield "adapter=qlora", make_memory_context(shape, model, qlora, training, device)
        overrides = f"adapter=qlora {key}".strip()
        yield overrides, make_memory_context(shape, model, qlora, checkpointed, device)
    if isinstance(model, Released) and model.path is None:
        for resolution in sorted(RESOLUTIONS, reverse=True):
            if resolution < shape.image_size:
                smaller = with_resolution(shape, resolution)
                overrides = f"model.resolution={resolution}"
                yield overrides, make_memory_context(smaller, model, adapter, training, device)
                overrides = f"{overrides} {key}".strip()
                yield overrides, make_memory_context(smaller, model, adapter, checkpointed, device)


def _can_quantize(adapter: Lora) -> bool:
    return adapter.initialization in (Initialization.default, Initialization.gaussian)
