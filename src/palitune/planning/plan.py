"""The whole plan of a run."""

from dataclasses import dataclass, replace

from palitune.models.adapters.config import AdapterConfig
from palitune.models.config import ModelConfig
from palitune.models.loading import load_for_training
from palitune.planning.alternatives import (
    ModelOption,
    TrainingEstimate,
    estimate_alternatives,
    estimate_released_models,
    estimate_training,
    make_memory_context,
    target_device,
)
from palitune.planning.calibration import MeasuredStep, measure_step
from palitune.planning.flops import Gpu
from palitune.planning.model_shapes import build_model_shape
from palitune.planning.peak_memory import Peak, peak_memory
from palitune.planning.static_memory import cache_entry_bytes
from palitune.planning.workload import Workload
from palitune.training.config import TrainingConfig


@dataclass(frozen=True)
class PlanReport:
    """A run, what else could be done, and all released models under its settings."""

    device: str
    gpu: Gpu
    workload: Workload
    seq_len: int
    """Of the longest row, image included."""
    micro_batch_size: int
    num_trainable_parameters: int
    """Numbers that are trained."""
    estimate: TrainingEstimate
    alternatives: list[TrainingEstimate]
    released_models: list[ModelOption]
    cache_entry_bytes: int
    """Bytes of an image in the vision cache."""


@dataclass(frozen=True)
class CalibrationResult:
    """A micro-batch's step on this machine: as predicted for it, and as measured."""

    device: str
    predicted: Peak
    measured: MeasuredStep

    @property
    def predicted_weight_bytes(self) -> int:
        return self.predicted.breakdown["base weights"] + self.predicted.breakdown["adapter"]

    @property
    def relative_error(self) -> float:
        """Of the step's memory, as a share of what was measured."""
        return self.predicted.step_bytes / self.measured.step - 1


def plan_training(
    model: ModelConfig,
    adapter: AdapterConfig,
    training: TrainingConfig,
    workload: Workload,
    gpu: Gpu,
    *,
    include_released_models: bool,
) -> PlanReport:
    """Predict a run without reading weights; `released`: and all released models."""
    paper = build_model_shape(model, adapter)
    setup = make_memory_context(paper, model, adapter, training, target_device(model))
    return PlanReport(
        setup.device,
        gpu,
        workload,
        workload.longest_batch(paper, 1).seq_len,
        training.micro_batch_size,
        sum(size for _, size in paper.trainable_tensors),
        estimate_training(setup, workload, gpu),
        estimate_alternatives(paper, model, adapter, training, workload, gpu),
        list(estimate_released_models(adapter, training, workload, gpu))
        if include_released_models
        else [],
        cache_entry_bytes(paper, setup.precision.bytes_per_element),
    )


def calibrate_memory(
    model: ModelConfig, adapter: AdapterConfig, training: TrainingConfig, workload: Workload
) -> CalibrationResult:
    """Take a real step of the run's model on this machine, and predict the same step."""
    paper = build_model_shape(model, adapter)
    network = load_for_training(model, adapter)
    settings = replace(
        training, global_batch_size=training.micro_batch_size, vision_feature_cache=None
    )
    setup = make_memory_context(paper, model, adapter, settings, network.device.type)
    batch = workload.longest_batch(paper, settings.micro_batch_size)
    return CalibrationResult(
        setup.device, peak_memory(setup, batch), measure_step(network, setup, batch)
    )
