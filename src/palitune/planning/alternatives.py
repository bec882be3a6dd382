"""What fits: the run and its neighbours, and every released model."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from palitune.models.adapters.config import AdapterConfig, Full, Initialization, Lora, Qlora
from palitune.models.config import Device, Dtype, ModelConfig, PaliGemma, PaliGemma2
from palitune.planning.activation_bytes import Precision
from palitune.planning.flops import Gpu, Speed, estimate_speed
from palitune.planning.model_shapes import ModelShape, build_model_shape
from palitune.planning.peak_memory import Peak, peak_memory
from palitune.planning.static_memory import MemoryContext
from palitune.planning.workload import Workload
from palitune.training.config import Optimizer, TrainingConfig

MAX_MICRO_BATCH_SIZE = 4096
"""Largest micro-batch that is looked for."""
RESOLUTIONS = (224, 448, 896)


@dataclass(frozen=True)
class TrainingEstimate:
    """A training as it is predicted."""

    overrides: str
    """The overrides that make it."""
    peak: Peak
    speed: Speed
    fits: bool
    max_micro_batch_size: int
    """That fits; 0: none."""


@dataclass(frozen=True)
class ModelOption:
    """A released model with an adapter at a resolution."""

    model: str
    resolution: int
    estimate: TrainingEstimate


def estimate_training(
    context: MemoryContext, workload: Workload, gpu: Gpu, overrides: str = ""
) -> TrainingEstimate:
    """Predict a training."""
    batch = workload.longest_batch(context.model_shape, context.training.micro_batch_size)
    highest = peak_memory(context, batch)
    return TrainingEstimate(
        overrides,
        highest,
        estimate_speed(context, workload, gpu),
        highest.total_bytes <= gpu.memory * 2**30,
        find_max_micro_batch_size(context, workload, gpu.memory * 2**30),
    )


def find_max_micro_batch_size(context: MemoryContext, workload: Workload, max_bytes: float) -> int:
    """The most rows whose peak stays below a limit in bytes."""

    def fits(rows: int) -> bool:
        return (
            peak_memory(context, workload.longest_batch(context.model_shape, rows)).total_bytes
            <= max_bytes
        )

    low, high = 0, 1
    while high <= MAX_MICRO_BATCH_SIZE and fits(high):
        low, high = high, 2 * high
    while high - low > 1 and low < MAX_MICRO_BATCH_SIZE:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def make_memory_context(
    model_shape: ModelShape,
    model: ModelConfig,
    adapter: AdapterConfig,
    training: TrainingConfig,
    device: str,
) -> MemoryContext:
    """Say what a training computes in on a device; what is `auto` is as it would be there."""
    full = isinstance(adapter, Full)
    wide = model.dtype is Dtype.fp32 or (model.dtype is Dtype.auto and (full or device == "cpu"))
    lora = adapter if isinstance(adapter, Lora) else Lora()
    precision = Precision(
        4 if wide else 2,
        adapter.quantization_bits(),
        extra_input_copies=int(lora.dropout > 0),
        extra_output_copies=2 * lora.dora,
    )
    accumulated = training.global_batch_size > training.micro_batch_size
    return MemoryContext(model_shape, precision, training, device, accumulated)


def target_device(model: ModelConfig) -> str:
    """A GPU, unless the run asks for the CPU."""
    return "cpu" if model.device is Device.cpu else "cuda"


def estimate_alternatives(
    model_shape: ModelShape,
    model: ModelConfig,
    adapter: AdapterConfig,
    training: TrainingConfig,
    workload: Workload,
    gpu: Gpu,
) -> list[TrainingEstimate]:
    """Predict the run with every combination of the settings that save the most memory."""
    plans = []
    for other in _adapter_variants(adapter):
        for checkpointed in (False, True):
            for optimizer in _optimizer_variants(other, training):
                settings = replace(
                    training, gradient_checkpointing=checkpointed, optimizer=optimizer
                )
                words = f"adapter={other.name}"
                words += " training.gradient_checkpointing=true" * checkpointed
                if optimizer is not Optimizer.adamw:
                    words += f" training.optimizer={optimizer.name}"
                setup = make_memory_context(
                    model_shape, model, other, settings, target_device(model)
                )
                plans.append(estimate_training(setup, workload, gpu, words))
    return plans


def _adapter_variants(adapter: AdapterConfig) -> list[AdapterConfig]:
    """The adapter on a base of full precision, and on a quantized one where it can be."""
    if not isinstance(adapter, Lora):
        return [adapter]
    shared = {one.name: getattr(adapter, one.name) for one in fields(Lora)}
    plain: list[AdapterConfig] = [Lora(**shared)]
    if isinstance(adapter, Qlora):
        return [*plain, adapter]
    if adapter.initialization in (Initialization.default, Initialization.gaussian):
        plain.append(Qlora(**shared))
    return plain


def _optimizer_variants(adapter: AdapterConfig, training: TrainingConfig) -> list[Optimizer]:
    """Those of an adapter take little memory, those of all weights four times the weights'."""
    if isinstance(adapter, Full):
        return [Optimizer.adamw, Optimizer.adamw_8bit]
    return [training.optimizer]


def estimate_released_models(
    adapter: AdapterConfig, training: TrainingConfig, workload: Workload, gpu: Gpu
) -> Iterator[ModelOption]:
    """Predict every released model at every resolution, in bf16 with LoRA and quantized."""
    adapters = _adapter_variants(adapter if isinstance(adapter, Lora) else Lora())
    if len(adapters) == 1:
        adapters = [Lora(), Qlora()]
    models: list[ModelConfig] = [
        PaliGemma(),
        *(PaliGemma2(size=size) for size in ("3b", "10b", "28b")),
    ]
    for model in models:
        paper = build_model_shape(model, adapters[0])
        name = f"{model.name} {getattr(model, 'size', '')}"
        for side in RESOLUTIONS:
            seen = with_resolution(paper, side)
            for other in adapters:
                setup = make_memory_context(seen, model, other, training, "cuda")
                yield ModelOption(
                    name, side, estimate_training(setup, workload, gpu, f"adapter={other.name}")
                )


def with_resolution(model_shape: ModelShape, image_size: int) -> ModelShape:
    """The same model for larger images: a position more per patch in the vision tower."""
    patches = model_shape.num_patches * image_size**2 // model_shape.image_size**2
    more = (patches - model_shape.num_patches) * model_shape.vision.hidden_size
    parameters = model_shape.parameter_counts | {
        "vision.rest": model_shape.parameter_counts["vision.rest"] + more
    }
    return replace(
        model_shape, image_size=image_size, num_patches=patches, parameter_counts=parameters
    )
