"""Floating-point operations of a step, and the time they take at a share of a device's peak."""

from collections.abc import Iterable
from dataclasses import dataclass

from palitune.planning.activation_bytes import BatchShape, linears_of_one_layer
from palitune.planning.model_shapes import Linear, ModelShape, Tower
from palitune.planning.peak_memory import is_checkpointed
from palitune.planning.static_memory import MemoryContext
from palitune.planning.workload import Workload


@dataclass(frozen=True)
class Gpu:
    """The device that is planned for."""

    memory: float
    """GiB."""
    tflops: float
    """Peak of dense matrix products in the network's precision."""
    mfu: float
    """Share of that peak which a step reaches."""
    bandwidth: float
    """TB/s at which weights are read and written."""


@dataclass(frozen=True)
class Speed:
    """Of a training, evaluations left out."""

    step_tflop: float
    """Operations of an optimizer step."""
    step_seconds: float
    samples_per_second: float
    steps: int | None
    hours: float | None


def estimate_speed(context: MemoryContext, workload: Workload, gpu: Gpu) -> Speed:
    """Predict the time of an optimizer step and of the run."""
    settings, paper = context.training, context.model_shape
    micro_batches = settings.global_batch_size // settings.micro_batch_size
    batch = workload.mean_batch(paper, settings.micro_batch_size)
    operations = micro_batches * micro_batch_flops(context, batch)
    per_second = gpu.mfu * gpu.tflops * 1e12
    moved = micro_batches * dequantization_bytes(context) / (gpu.bandwidth * 1e12)
    seconds = operations / per_second + moved
    steps = workload.num_steps(settings)
    cached = 0.0
    if settings.vision_feature_cache is not None:
        cached = (workload.images or 0) * vision_flops(paper, 1) / per_second
    hours = None if steps is None else (steps * seconds + cached) / 3600
    return Speed(operations / 1e12, seconds, settings.global_batch_size / seconds, steps, hours)


def micro_batch_flops(context: MemoryContext, batch: BatchShape) -> float:
    """Operations of a micro-batch, forward and backward.

    Of the last language layer only keys and values are made at all positions, the head works at
    labels alone. Recomputed layers have a second forward pass; attention's backward pass has five
    products of the two that its forward pass has.
    """
    paper, tower = context.model_shape, context.model_shape.language
    t, count = batch.batch_size * batch.seq_len, tower.num_layers
    linears = linears_of_one_layer(paper.linears, "language", count)
    keys = 2 * 2 * tower.hidden_size * tower.num_key_value_heads * tower.head_dim
    scores = _attention_flops(tower, t, batch.seq_len)
    again = sum(is_checkpointed(context.training, number, count) for number in range(count))
    total = (count - 1) * (_forward_backward_flops(linears, t) + 3.5 * scores)
    total += again * (_forward_flops(linears, t) + scores)
    total += _forward_backward_flops(linears, batch.num_labels) + 2 * keys * (t - batch.num_labels)
    total += 3.5 * _attention_flops(tower, batch.num_labels, batch.seq_len)
    head = 2 * batch.num_labels * tower.hidden_size * paper.vocab_size
    total += head * (3 if _trains_embeddings(paper) else 2)
    if context.training.vision_feature_cache is None:
        total += vision_flops(paper, batch.num_images, include_backward=paper.trains("vision"))
    projector = [one for one in paper.linears if one.module_group == "projector"]
    return total + _forward_flops(projector, batch.num_images * paper.num_patches)


def vision_flops(
    model_shape: ModelShape, num_images: int, *, include_backward: bool = False
) -> float:
    """Operations of the vision tower."""
    t, count = num_images * model_shape.num_patches, model_shape.vision.num_layers
    linears = linears_of_one_layer(model_shape.linears, "vision", count)
    scores = _attention_flops(model_shape.vision, t, model_shape.num_patches)
    if include_backward:
        return count * (_forward_backward_flops(linears, t) + 3.5 * scores)
    return count * (_forward_flops(linears, t) + scores)


def dequantization_bytes(context: MemoryContext) -> float:
    """Bytes that a micro-batch moves to expand quantized weights in each of its passes: stored
    ones read, expanded ones written and read.
    """
    if context.precision.quantization_bits is None:
        return 0.0
    weights = sum(
        one.in_features * one.out_features for one in context.model_shape.language_linears
    )
    passes = 3 if context.training.gradient_checkpointing else 2
    return (
        passes
        * weights
        * (context.precision.quantization_bits / 8 + 2 * context.precision.bytes_per_element)
    )


def _forward_flops(linears: Iterable[Linear], num_tokens: int) -> float:
    """A product of (t, inputs) and (inputs, outputs) takes two operations per number of each."""
    return sum(2.0 * num_tokens * one.in_features * one.out_features for one in linears)


def _forward_backward_flops(linears: list[Linear], num_tokens: int) -> float:
    """Backward once more for the input, again for a trained weight; three times for LoRA."""
    trained = _forward_flops([one for one in linears if one.trainable], num_tokens)
    lora = sum(
        6.0 * num_tokens * one.rank * (one.in_features + one.out_features) for one in linears
    )
    return 2 * _forward_flops(linears, num_tokens) + trained + lora


def _attention_flops(tower: Tower, num_queries: int, num_keys: int) -> float:
    """Products of t queries with keys, and of weights with values."""
    return 4.0 * num_queries * num_keys * tower.num_heads * tower.head_dim


def _trains_embeddings(model_shape: ModelShape) -> bool:
    return any(part in ("language.rest", "head") for part, _ in model_shape.trainable_tensors)
