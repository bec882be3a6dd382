"""What is in memory between two steps: weights, adapter, optimizer state, the batch."""

from dataclasses import dataclass

from palitune.planning.activation_bytes import FLOAT32_BYTES, BatchShape, Precision
from palitune.planning.model_shapes import ModelShape
from palitune.training.config import Optimizer, TrainingConfig

MemoryBreakdown = dict[str, int]
"""Bytes by what they are for."""

MIN_8BIT_SIZE = 4096
"""bitsandbytes keeps 32-bit states of smaller tensors."""


@dataclass(frozen=True)
class MemoryContext:
    """A training on one device, as far as memory depends on it."""

    model_shape: ModelShape
    precision: Precision
    training: TrainingConfig
    device: str
    """cpu | cuda."""
    accumulates_gradients: bool
    """Whether gradients of earlier micro-batches are there."""


def static_bytes(context: MemoryContext, batch: BatchShape) -> MemoryBreakdown:
    """What is there before a step.

    Batch: ids, types, mask and labels, rows x tokens int64 each; pixels uint8, or with a vision
    cache its entries.
    """
    paper, p = context.model_shape, context.precision
    pixels = 3 * paper.image_size**2
    if context.training.vision_feature_cache is not None:
        pixels = cache_entry_bytes(paper, p.bytes_per_element)
    return {
        "base weights": base_weight_bytes(paper, p),
        "adapter": 0
        if is_full_finetuning(paper)
        else FLOAT32_BYTES * sum(size for _, size in paper.trainable_tensors),
        "optimizer state": optimizer_state_bytes(context),
        "batch": 4 * 8 * batch.batch_size * batch.seq_len + batch.num_images * pixels,
    }


def cache_entry_bytes(model_shape: ModelShape, bytes_per_element: int) -> int:
    """An entry of the vision cache: patches x width of the tower."""
    return model_shape.num_patches * model_shape.vision.hidden_size * bytes_per_element


def base_weight_bytes(model_shape: ModelShape, precision: Precision) -> int:
    """Every parameter of the base once, the head being the embeddings.

    4 bits: half a byte of each weight of the language model's linear layers, a byte of scale per
    64, and 4 per 256 scales. 8 bits: a byte, and 4 per output.
    """
    everything = sum(model_shape.parameter_counts.values()) * precision.bytes_per_element
    if precision.quantization_bits is None:
        return everything
    layers = model_shape.language_linears
    weights = sum(one.in_features * one.out_features for one in layers)
    if precision.quantization_bits == 4:
        stored = weights // 2 + weights // 64 + weights // 64 // 256 * 4
    else:
        stored = weights + FLOAT32_BYTES * sum(one.out_features for one in layers)
    return everything - weights * precision.bytes_per_element + stored


def optimizer_state_bytes(context: MemoryContext) -> int:
    """Two averages of every trained number: float32, or 8 bits with 4 bytes per 256."""
    sizes = [size for _, size in context.model_shape.trainable_tensors]
    if context.training.optimizer is Optimizer.adamw:
        return 2 * bytes_per_trainable_parameter(context) * sum(sizes)
    return sum(2 * (size + size // 64 if size >= MIN_8BIT_SIZE else 4 * size) for size in sizes)


def bytes_per_trainable_parameter(context: MemoryContext) -> int:
    """Bytes of a trained number: adapters are float32 whatever the base is."""
    return (
        context.precision.bytes_per_element
        if is_full_finetuning(context.model_shape)
        else FLOAT32_BYTES
    )


def is_full_finetuning(model_shape: ModelShape) -> bool:
    return not any(one.rank for one in model_shape.linears)
