"""The whole plan of a run."""

from dataclasses import dataclass, replace

from palitune import models
from palitune.models.adapters import Adapter
from palitune.models.checkpoints import Model
from palitune.planning.calibration import Measured, measure
from palitune.planning.choices import (
    Cell,
    Plan,
    neighbours,
    plan,
    planned_device,
    released_models,
    set_up,
)
from palitune.planning.held import cache_entry
from palitune.planning.memory import Peak, peak
from palitune.planning.on_paper import put_on_paper
from palitune.planning.speed import Gpu
from palitune.planning.workload import Workload
from palitune.training.settings import Training


@dataclass(frozen=True)
class Planned:
    """A run, what else could be done, and all released models under its settings."""

    device: str
    gpu: Gpu
    workload: Workload
    tokens: int
    """Of the longest row, image included."""
    micro_batch: int
    trained: int
    """Numbers that are trained."""
    plan: Plan
    neighbours: list[Plan]
    released: list[Cell]
    cache_entry: int
    """Bytes of an image in the vision cache."""


@dataclass(frozen=True)
class Calibrated:
    """A micro-batch's step on this machine: as predicted for it, and as measured."""

    device: str
    predicted: Peak
    measured: Measured

    @property
    def predicted_weights(self) -> int:
        return self.predicted.parts["base weights"] + self.predicted.parts["adapter"]

    @property
    def error(self) -> float:
        """Of the step's memory, as a share of what was measured."""
        return self.predicted.step / self.measured.step - 1


def predict(
    model: Model,
    adapter: Adapter,
    training: Training,
    workload: Workload,
    gpu: Gpu,
    *,
    released: bool,
) -> Planned:
    """Predict a run without reading weights; `released`: and all released models."""
    paper = put_on_paper(model, adapter)
    setup = set_up(paper, model, adapter, training, planned_device(model))
    return Planned(
        setup.device,
        gpu,
        workload,
        workload.longest(paper, 1).tokens,
        training.micro_batch_size,
        sum(size for _, size in paper.trained),
        plan(setup, workload, gpu),
        neighbours(paper, model, adapter, training, workload, gpu),
        list(released_models(adapter, training, workload, gpu)) if released else [],
        cache_entry(paper, setup.precision.bytes),
    )


def calibrate(model: Model, adapter: Adapter, training: Training, workload: Workload) -> Calibrated:
    """Take a real step of the run's model on this machine, and predict the same step."""
    paper = put_on_paper(model, adapter)
    network = models.load_trainable(model, adapter)
    settings = replace(training, batch_size=training.micro_batch_size, vision_cache=None)
    setup = set_up(paper, model, adapter, settings, network.device.type)
    batch = workload.longest(paper, settings.micro_batch_size)
    return Calibrated(setup.device, peak(setup, batch), measure(network, setup, batch))
