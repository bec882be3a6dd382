"""Estimates of the run, of alternative settings, and of all released models."""

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
"""Upper limit of the search for the largest micro-batch."""
RESOLUTIONS = (224, 448, 896)


@dataclass(frozen=True)
class TrainingEstimate:
    """Predicted memory and speed of a training run."""

    overrides: str
    """Command line overrides that select these settings."""
    peak: Peak
    speed: Speed
    fits: bool
    max_micro_batch_size: int
    """Largest micro-batch that fits; 0 if none does."""


@dataclass(frozen=True)
class ModelOption:
    """A released model at a resolution, with an adapter."""

    model: str
    resolution: int
    estimate: TrainingEstimate


def estimate_training(
    context: MemoryContext, workload: Workload, gpu: Gpu, overrides: str = ""
) -> TrainingEstimate:
    """Estimate memory and speed of a training run.

    Args:
        context: The training run.
        workload: Its rows.
        gpu: The planned device.
        overrides: Command line overrides that select these settings.
    """
    max_bytes = gpu.memory * 2**30
    batch = workload.longest_batch(context.model_shape, context.training.micro_batch_size)
    peak = peak_memory(context, batch)
    return TrainingEstimate(
        overrides,
        peak,
        estimate_speed(context, workload, gpu),
        fits=peak.total_bytes <= max_bytes,
        max_micro_batch_size=find_max_micro_batch_size(context, workload, max_bytes),
    )


def find_max_micro_batch_size(context: MemoryContext, workload: Workload, max_bytes: float) -> int:
    """Return the largest micro-batch whose peak memory is at most `max_bytes`; 0 if none is."""

    def fits(batch_size: int) -> bool:
        batch = workload.longest_batch(context.model_shape, batch_size)
        return peak_memory(context, batch).total_bytes <= max_bytes

    low, high = 0, 1
    while high <= MAX_MICRO_BATCH_SIZE and fits(high):
        low, high = high, 2 * high
    while high - low > 1 and low < MAX_MICRO_BATCH_SIZE:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of a number up to a limit; 0 if the limit is 0."""
    return max((size for size in range(1, limit + 1) if number % size == 0), default=0)


def make_memory_context(
    model_shape: ModelShape,
    model: ModelConfig,
    adapter: AdapterConfig,
    training: TrainingConfig,
    device: str,
) -> MemoryContext:
    """Return the memory context of a training run.

    Args:
        model_shape: Shape of the model with its adapter.
        model: Model settings. `dtype=auto` is resolved as on the device.
        adapter: Adapter settings.
        training: Training settings.
        device: cpu | cuda.
    """
    is_fp32 = model.dtype is Dtype.fp32 or (
        model.dtype is Dtype.auto and (isinstance(adapter, Full) or device == "cpu")
    )
    lora = adapter if isinstance(adapter, Lora) else Lora()
    precision = Precision(
        4 if is_fp32 else 2,
        adapter.quantization_bits(),
        extra_input_copies=int(lora.dropout > 0),
        extra_output_copies=2 * lora.dora,
        autocast=isinstance(adapter, Full) and model.dtype is Dtype.auto and device == "cuda",
    )
    accumulates = training.global_batch_size > training.micro_batch_size
    return MemoryContext(model_shape, precision, training, device, accumulates)


def target_device(model: ModelConfig) -> str:
    """Return the planned device type: a GPU unless `model.device=cpu`."""
    return "cpu" if model.device is Device.cpu else "cuda"


def estimate_alternatives(
    model_shape: ModelShape,
    model: ModelConfig,
    adapter: AdapterConfig,
    training: TrainingConfig,
    workload: Workload,
    gpu: Gpu,
) -> list[TrainingEstimate]:
    """Estimate the run with every combination of the settings that save the most memory.

    The arguments are those of `make_memory_context` and `estimate_training`.
    """
    device = target_device(model)
    estimates = []
    for variant in _adapter_variants(adapter):
        for checkpointing in (False, True):
            for optimizer in _optimizer_variants(variant, training):
                settings = replace(
                    training, gradient_checkpointing=checkpointing, optimizer=optimizer
                )
                overrides = f"adapter={variant.name}"
                overrides += " training.gradient_checkpointing=true" * checkpointing
                if optimizer is not Optimizer.adamw:
                    overrides += f" training.optimizer={optimizer.name}"
                context = make_memory_context(model_shape, model, variant, settings, device)
                estimates.append(estimate_training(context, workload, gpu, overrides))
    return estimates


def _adapter_variants(adapter: AdapterConfig) -> list[AdapterConfig]:
    """Return the adapter without and with quantization, as far as it supports both."""
    if not isinstance(adapter, Lora):
        return [adapter]
    lora_settings = {field.name: getattr(adapter, field.name) for field in fields(Lora)}
    variants: list[AdapterConfig] = [Lora(**lora_settings)]
    if isinstance(adapter, Qlora):
        return [*variants, adapter]
    if adapter.initialization in (Initialization.default, Initialization.gaussian):
        variants.append(Qlora(**lora_settings))
    return variants


def _optimizer_variants(adapter: AdapterConfig, training: TrainingConfig) -> list[Optimizer]:
    """Return the optimizers to compare: their state is large in full fine-tuning only."""
    if isinstance(adapter, Full):
        return [Optimizer.adamw, Optimizer.adamw_8bit]
    return [training.optimizer]


def estimate_released_models(
    adapter: AdapterConfig, training: TrainingConfig, workload: Workload, gpu: Gpu
) -> Iterator[ModelOption]:
    """Yield estimates of every released model and resolution, with LoRA in bf16 and with QLoRA."""
    adapters = _adapter_variants(adapter if isinstance(adapter, Lora) else Lora())
    if len(adapters) == 1:
        adapters = [Lora(), Qlora()]
    models: list[ModelConfig] = [
        PaliGemma(),
        *(PaliGemma2(size=size) for size in ("3b", "10b", "28b")),
    ]
    for model in models:
        base_shape = build_model_shape(model, adapters[0])
        name = f"{model.name} {getattr(model, 'size', '')}"
        for resolution in RESOLUTIONS:
            model_shape = with_resolution(base_shape, resolution)
            for variant in adapters:
                context = make_memory_context(model_shape, model, variant, training, "cuda")
                overrides = f"adapter={variant.name}"
                estimate = estimate_training(context, workload, gpu, overrides)
                yield ModelOption(name, resolution, estimate)


def with_resolution(model_shape: ModelShape, image_size: int) -> ModelShape:
    """Return the shape of the model at another resolution: one position embedding per patch."""
    num_patches = model_shape.num_patches * image_size**2 // model_shape.image_size**2
    num_added = (num_patches - model_shape.num_patches) * model_shape.vision.hidden_size
    counts = dict(model_shape.parameter_counts)
    counts["vision.rest"] += num_added
    return replace(
        model_shape, image_size=image_size, num_patches=num_patches, parameter_counts=counts
    )
