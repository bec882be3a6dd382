"""Static memory between two optimizer steps: weights, adapter, optimizer state, batch."""

from dataclasses import dataclass

from palitune.planning.activation_bytes import FLOAT32_BYTES, BatchShape, Precision
from palitune.planning.model_shapes import ModelShape
from palitune.training.config import Optimizer, TrainingConfig

MemoryBreakdown = dict[str, int]
"""Bytes by purpose."""

MIN_8BIT_SIZE = 4096
"""bitsandbytes keeps 32-bit states for smaller tensors (`min_8bit_size`)."""


@dataclass(frozen=True)
class MemoryContext:
    """Everything about a training run on one device that memory depends on."""

    model_shape: ModelShape
    precision: Precision
    training: TrainingConfig
    device: str
    """cpu | cuda."""
    accumulates_gradients: bool
    """Whether the gradients of earlier micro-batches are in memory."""


def static_bytes(context: MemoryContext, batch: BatchShape) -> MemoryBreakdown:
    """Return what is in memory before a step.

    The batch has ids, token types, attention mask and labels, rows x tokens int64 each, and uint8
    pixels or, with a vision feature cache, its entries.
    """
    model_shape, precision = context.model_shape, context.precision
    image_bytes = 3 * model_shape.image_size**2
    if context.training.vision_feature_cache is not None:
        image_bytes = cache_entry_bytes(model_shape, precision.bytes_per_element)
    is_full = model_shape.is_full_finetuning
    return {
        "base weights": base_weight_bytes(model_shape, precision),
        "adapter": 0 if is_full else FLOAT32_BYTES * model_shape.num_trainable_parameters,
        "optimizer state": optimizer_state_bytes(context),
        "batch": 4 * 8 * batch.num_tokens + batch.num_images * image_bytes,
    }


def cache_entry_bytes(model_shape: ModelShape, bytes_per_element: int) -> int:
    """Return the bytes of an entry of the vision feature cache: patches x width of the tower."""
    return model_shape.num_patches * model_shape.vision.hidden_size * bytes_per_element


def base_weight_bytes(model_shape: ModelShape, precision: Precision) -> int:
    """Return the bytes of all parameters of the base model; head and embeddings are one tensor.

    bitsandbytes stores a 4-bit weight in half a byte, with a one-byte scale per 64 weights and four
    bytes per 256 scales (double quantization; Dettmers et al., 2023, "QLoRA"), and an 8-bit weight
    in one byte, with a four-byte scale per output.
    """
    total = sum(model_shape.parameter_counts.values()) * precision.bytes_per_element
    if precision.quantization_bits is None:
        return total
    linears = model_shape.language_linears
    num_weights = sum(linear.num_weights for linear in linears)
    if precision.quantization_bits == 4:
        quantized = num_weights // 2 + num_weights // 64 + num_weights // 64 // 256 * 4
    else:
        quantized = num_weights + FLOAT32_BYTES * sum(linear.out_features for linear in linears)
    return total - num_weights * precision.bytes_per_element + quantized


def optimizer_state_bytes(context: MemoryContext) -> int:
    """Return the bytes of AdamW's two moments of every trained parameter.

    They are float32, or 8-bit with a four-byte scale per 256 numbers (Dettmers et al., 2022, "8-bit
    Optimizers via Block-wise Quantization").
    """
    sizes = [size for _, size in context.model_shape.trainable_tensors]
    if context.training.optimizer is Optimizer.adamw:
        return 2 * bytes_per_trainable_parameter(context) * sum(sizes)
    return sum(2 * (size + size // 64 if size >= MIN_8BIT_SIZE else 4 * size) for size in sizes)


def bytes_per_trainable_parameter(context: MemoryContext) -> int:
    """Return the bytes of a trained parameter; adapters are float32 in every precision."""
    if context.model_shape.is_full_finetuning:
        return context.precision.bytes_per_element
    return FLOAT32_BYTES
