"""The plan of a run, and its calibration by a real step."""

from dataclasses import dataclass, replace

from palitune.evaluation.config import EvaluationConfig
from palitune.models.adapters.config import AdapterConfig
from palitune.models.config import Device, ModelConfig
from palitune.models.loading import load_for_training
from palitune.planning.alternatives import (
    ModelOption,
    TrainingEstimate,
    estimate_alternatives,
    estimate_released_models,
    estimate_training,
    find_max_micro_batch_size,
    largest_divisor,
    make_memory_context,
    target_device,
)
from palitune.planning.calibration import CalibrationStep, measure_step
from palitune.planning.evaluation_memory import evaluation_peak, find_max_evaluation_batch_size
from palitune.planning.flops import Gpu
from palitune.planning.measurements import MeasuredStep, measurements_of
from palitune.planning.model_shapes import build_model_shape
from palitune.planning.peak_memory import Peak, peak_memory
from palitune.planning.static_memory import MemoryContext, cache_entry_bytes
from palitune.planning.workload import Workload
from palitune.training.config import TrainingConfig


@dataclass(frozen=True)
class EvaluationEstimate:
    """Predicted memory of the evaluations of a run."""

    batch_size: int
    """Prompts per batch, as set."""
    peak: Peak
    max_batch_size: int
    """Largest batch that fits; 0 if none does."""


@dataclass(frozen=True)
class PlanReport:
    """Estimates of a run, of alternatives, and of all released models with its settings."""

    device: str
    gpu: Gpu
    workload: Workload
    seq_len: int
    """Tokens of the longest row with images."""
    micro_batch_size: int
    num_trainable_parameters: int
    estimate: TrainingEstimate
    alternatives: list[TrainingEstimate]
    released_models: list[ModelOption]
    cache_entry_bytes: int
    """Bytes per image in the vision feature cache."""
    evaluation: EvaluationEstimate
    measurements: list[MeasuredStep]
    """Training steps that were measured on the planned card."""


@dataclass(frozen=True)
class CalibrationResult:
    """Prediction and measurement of a step of one micro-batch on this machine."""

    device: str
    predicted: Peak
    measured: CalibrationStep

    @property
    def predicted_weight_bytes(self) -> int:
        return self.predicted.breakdown["base weights"] + self.predicted.breakdown["adapter"]

    @property
    def relative_error(self) -> float:
        """Relative error of the predicted step memory."""
        return self.predicted.step_bytes / self.measured.step - 1


def plan_training(
    model: ModelConfig,
    adapter: AdapterConfig,
    training: TrainingConfig,
    workload: Workload,
    gpu: Gpu,
    *,
    include_released_models: bool,
    evaluation: EvaluationConfig | None = None,
) -> PlanReport:
    """Plan a run without reading weights.

    Args:
        model: Model settings.
        adapter: Adapter settings.
        training: Training settings.
        workload: Rows of the run.
        gpu: The planned device.
        include_released_models: Also estimate all released models.
        evaluation: Evaluation settings; None for the defaults.
    """
    model_shape = build_model_shape(model, adapter)
    context = make_memory_context(model_shape, model, adapter, training, target_device(model))
    released_models = []
    if include_released_models:
        released_models = list(estimate_released_models(adapter, training, workload, gpu))
    return PlanReport(
        context.device,
        gpu,
        workload,
        seq_len=workload.longest_batch(model_shape, 1).seq_len,
        micro_batch_size=training.micro_batch_size,
        num_trainable_parameters=model_shape.num_trainable_parameters,
        estimate=estimate_training(context, workload, gpu),
        alternatives=estimate_alternatives(model_shape, model, adapter, training, workload, gpu),
        released_models=released_models,
        cache_entry_bytes=cache_entry_bytes(model_shape, context.precision.bytes_per_element),
        evaluation=_estimate_evaluation(context, workload, gpu, evaluation or EvaluationConfig()),
        measurements=measurements_of(gpu.name) if context.device == "cuda" else [],
    )


def _estimate_evaluation(
    context: MemoryContext, workload: Workload, gpu: Gpu, settings: EvaluationConfig
) -> EvaluationEstimate:
    size, beams = settings.batch_size, settings.num_beams
    return EvaluationEstimate(
        size,
        evaluation_peak(context, workload, size, beams),
        find_max_evaluation_batch_size(context, workload, beams, gpu.memory * 2**30),
    )


def with_largest_micro_batch_size(
    model: ModelConfig,
    adapter: AdapterConfig,
    training: TrainingConfig,
    workload: Workload,
    gpu: Gpu,
) -> TrainingConfig:
    """Return the settings with the largest micro-batch that is predicted to fit on a GPU.

    It divides the batch; on a CPU, and if none fits, the settings are returned unchanged. The
    arguments are those of `plan_training`.
    """
    if target_device(model) == "cpu":
        return training
    context = make_memory_context(
        build_model_shape(model, adapter), model, adapter, training, target_device(model)
    )
    largest = find_max_micro_batch_size(context, workload, gpu.memory * 2**30)
    size = largest_divisor(training.global_batch_size, largest)
    return replace(training, micro_batch_size=size) if size else training


def calibrate_memory(
    model: ModelConfig, adapter: AdapterConfig, training: TrainingConfig, workload: Workload
) -> CalibrationResult:
    """Measure a real step of the run's model on this machine, and predict the same step.

    The arguments are those of `plan_training`.
    """
    network = load_for_training(model, adapter)
    used_device = Device(network.device.type)
    model_shape = build_model_shape(replace(model, device=used_device), adapter)
    settings = replace(
        training, global_batch_size=training.micro_batch_size, vision_feature_cache=None
    )
    context = make_memory_context(model_shape, model, adapter, settings, network.device.type)
    batch = workload.longest_batch(model_shape, settings.micro_batch_size)
    return CalibrationResult(
        context.device, peak_memory(context, batch), measure_step(network, context, batch)
    )
