"""What fits: the run and its neighbours, and every released model."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from palitune.models.adapters import Adapter, Full, Initialization, Lora, Qlora
from palitune.models.checkpoints import Device, Dtype, Model, PaliGemma, PaliGemma2
from palitune.planning.activations import Precision
from palitune.planning.held import Setup
from palitune.planning.memory import Peak, peak
from palitune.planning.on_paper import Paper, put_on_paper
from palitune.planning.speed import Gpu, Speed, speed
from palitune.planning.workload import Workload
from palitune.training.settings import Optimizer, Training

MOST_ROWS = 4096
"""Largest micro-batch that is looked for."""
RESOLUTIONS = (224, 448, 896)


@dataclass(frozen=True)
class Plan:
    """A training as it is predicted."""

    words: str
    """The overrides that make it."""
    peak: Peak
    speed: Speed
    fits: bool
    largest_micro_batch: int
    """That fits; 0: none."""


@dataclass(frozen=True)
class Cell:
    """A released model with an adapter at a resolution."""

    model: str
    resolution: int
    plan: Plan


def plan(setup: Setup, workload: Workload, gpu: Gpu, words: str = "") -> Plan:
    """Predict a training."""
    batch = workload.longest(setup.paper, setup.training.micro_batch_size)
    highest = peak(setup, batch)
    return Plan(
        words,
        highest,
        speed(setup, workload, gpu),
        highest.total <= gpu.memory * 2**30,
        largest_micro_batch(setup, workload, gpu.memory * 2**30),
    )


def largest_micro_batch(setup: Setup, workload: Workload, limit: float) -> int:
    """The most rows whose peak stays below a limit in bytes."""

    def fits(rows: int) -> bool:
        return peak(setup, workload.longest(setup.paper, rows)).total <= limit

    low, high = 0, 1
    while high <= MOST_ROWS and fits(high):
        low, high = high, 2 * high
    while high - low > 1 and low < MOST_ROWS:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def set_up(paper: Paper, model: Model, adapter: Adapter, training: Training, device: str) -> Setup:
    """Say what a training computes in on a device; what is `auto` is as it would be there."""
    full = isinstance(adapter, Full)
    wide = model.dtype is Dtype.fp32 or (model.dtype is Dtype.auto and (full or device == "cpu"))
    lora = adapter if isinstance(adapter, Lora) else Lora()
    precision = Precision(
        4 if wide else 2,
        adapter.base_bits(),
        extra_inputs=int(lora.dropout > 0),
        extra_outputs=2 * lora.dora,
    )
    accumulated = training.batch_size > training.micro_batch_size
    return Setup(paper, precision, training, device, accumulated)


def planned_device(model: Model) -> str:
    """A GPU, unless the run asks for the CPU."""
    return "cpu" if model.device is Device.cpu else "cuda"


def neighbours(
    paper: Paper,
    model: Model,
    adapter: Adapter,
    training: Training,
    workload: Workload,
    gpu: Gpu,
) -> list[Plan]:
    """Predict the run with every combination of the settings that save the most memory."""
    plans = []
    for other in _adapters(adapter):
        for checkpointed in (False, True):
            for optimizer in _optimizers(other, training):
                settings = replace(
                    training, gradient_checkpointing=checkpointed, optimizer=optimizer
                )
                words = f"adapter={other.name}"
                words += " training.gradient_checkpointing=true" * checkpointed
                if optimizer is not Optimizer.adamw:
                    words += f" training.optimizer={optimizer.name}"
                setup = set_up(paper, model, other, settings, planned_device(model))
                plans.append(plan(setup, workload, gpu, words))
    return plans


def _adapters(adapter: Adapter) -> list[Adapter]:
    """The adapter on a base of full precision, and on a quantized one where it can be."""
    if not isinstance(adapter, Lora):
        return [adapter]
    shared = {one.name: getattr(adapter, one.name) for one in fields(Lora)}
    plain: list[Adapter] = [Lora(**shared)]
    if isinstance(adapter, Qlora):
        return [*plain, adapter]
    if adapter.initialization in (Initialization.default, Initialization.gaussian):
        plain.append(Qlora(**shared))
    return plain


def _optimizers(adapter: Adapter, training: Training) -> list[Optimizer]:
    """Those of an adapter take little memory, those of all weights four times the weights'."""
    if isinstance(adapter, Full):
        return [Optimizer.adamw, Optimizer.adamw_8bit]
    return [training.optimizer]


def released_models(
    adapter: Adapter, training: Training, workload: Workload, gpu: Gpu
) -> Iterator[Cell]:
    """Predict every released model at every resolution, in bf16 with LoRA and quantized."""
    adapters = _adapters(adapter if isinstance(adapter, Lora) else Lora())
    if len(adapters) == 1:
        adapters = [Lora(), Qlora()]
    models: list[Model] = [PaliGemma(), *(PaliGemma2(size=size) for size in ("3b", "10b", "28b"))]
    for model in models:
        paper = put_on_paper(model, adapters[0])
        name = f"{model.name} {getattr(model, 'size', '')}"
        for side in RESOLUTIONS:
            seen = at_resolution(paper, side)
            for other in adapters:
                setup = set_up(seen, model, other, training, "cuda")
                yield Cell(name, side, plan(setup, workload, gpu, f"adapter={other.name}"))


def at_resolution(paper: Paper, side: int) -> Paper:
    """The same model for larger images: a position more per patch in the vision tower."""
    patches = paper.patches * side**2 // paper.side**2
    more = (patches - paper.patches) * paper.vision.width
    parameters = paper.parameters | {"vision.rest": paper.parameters["vision.rest"] + more}
    return replace(paper, side=side, patches=patches, parameters=parameters)
