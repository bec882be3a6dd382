"""Floating-point operations of an optimizer step, and its predicted time on a GPU.

A matrix product of (tokens, inputs) and (inputs, outputs) takes 2 x tokens x inputs x outputs
operations. The backward pass takes the same once more for the gradient of the input and once more
for that of a trained weight (Kaplan et al., 2020, "Scaling Laws for Neural Language Models",
section 2.1).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from palitune.planning.activation_bytes import FLOAT32_BYTES, BatchShape, linears_of_one_layer
from palitune.planning.model_shapes import Linear, ModelShape, Tower
from palitune.planning.peak_memory import is_checkpointed, saved_activation_bytes
from palitune.planning.static_memory import MemoryContext
from palitune.planning.step_time import (
    SECONDS_PER_LAUNCH,
    micro_batch_launches,
    micro_batch_traffic,
)
from palitune.planning.workload import Workload

_ATTENTION_TRAINING_FACTOR = 3.5
"""Forward and backward pass of attention relative to the forward pass: its two products, and five
in the backward pass, one of which recomputes the scores (Dao et al., 2022, "FlashAttention")."""


@dataclass(frozen=True)
class Gpu:
    """The planned device."""

    memory: float
    """GiB."""
    tflops: float
    """Peak TFLOP/s of dense matrix products in the compute dtype."""
    mfu: float
    """Model FLOPs utilization: the share of the peak that a step reaches."""
    bandwidth: float
    """Memory bandwidth in TB/s."""
    fp32_tflops: float | None = None
    """Peak TFLOP/s in float32; None: as `tflops`."""
    host_bandwidth: float = 64.0
    """Bandwidth to host memory in GB/s, in one direction."""
    name: str = "GPU"


@dataclass(frozen=True)
class Speed:
    """Speed of a training run without evaluations."""

    step_tflop: float
    """TFLOP of an optimizer step."""
    step_seconds: float
    samples_per_second: float
    steps: int | None
    hours: float | None
    compute_seconds: float = 0.0
    """Time of the products of a step."""
    traffic_seconds: float = 0.0
    """Time of its memory traffic."""
    launch_seconds: float = 0.0
    """Time in which the host launches its kernels, while the GPU computes."""


def estimate_speed(context: MemoryContext, workload: Workload, gpu: Gpu) -> Speed:
    """Estimate the time of an optimizer step and of the run.

    A step takes the time of its products and memory traffic, or that of its kernel launches,
    whichever is longer.
    """
    settings, model_shape = context.training, context.model_shape
    num_micro_batches = settings.global_batch_size // settings.micro_batch_size
    batch = workload.mean_batch(model_shape, settings.micro_batch_size)
    step_flops = num_micro_batches * micro_batch_flops(context, batch)
    in_fp32 = context.precision.bytes_per_element == FLOAT32_BYTES
    tflops = gpu.fp32_tflops if in_fp32 and gpu.fp32_tflops else gpu.tflops
    flops_per_second = gpu.mfu * tflops * 1e12
    compute_seconds = step_flops / flops_per_second
    traffic = micro_batch_traffic(context, batch) + dequantization_bytes(context)
    traffic_seconds = traffic / (gpu.bandwidth * 1e12)
    if settings.activation_offloading:  # to the host and back
        traffic_seconds += 2 * saved_activation_bytes(context, batch) / (gpu.host_bandwidth * 1e9)
    traffic_seconds *= num_micro_batches
    launches = num_micro_batches * micro_batch_launches(context, batch)
    launch_seconds = launches * SECONDS_PER_LAUNCH if context.device == "cuda" else 0.0
    step_seconds = max(compute_seconds + traffic_seconds, launch_seconds)
    num_steps = workload.num_steps(settings)
    cache_seconds = 0.0
    if settings.vision_feature_cache is not None:
        cache_seconds = (workload.images or 0) * vision_flops(model_shape, 1) / flops_per_second
    hours = None if num_steps is None else (num_steps * step_seconds + cache_seconds) / 3600
    return Speed(
        step_flops / 1e12,
        step_seconds,
        settings.global_batch_size / step_seconds,
        num_steps,
        hours,
        compute_seconds,
        traffic_seconds,
        launch_seconds,
    )


def micro_batch_flops(context: MemoryContext, batch: BatchShape) -> float:
    """Return the operations of a micro-batch, forward and backward.

    In the last language layer only keys and values are computed for all tokens, everything else and
    the head only for tokens that predict a label. Checkpointed layers have a second forward pass.
    """
    model_shape, language = context.model_shape, context.model_shape.language
    num_tokens, num_layers = batch.num_tokens, language.num_layers
    linears = linears_of_one_layer(model_shape.linears, "language", num_layers)
    attention = _attention_flops(language, num_tokens, batch.seq_len)
    num_checkpointed = sum(
        is_checkpointed(context.training, layer, num_layers) for layer in range(num_layers)
    )
    total = (num_layers - 1) * (
        _training_flops(linears, num_tokens) + _ATTENTION_TRAINING_FACTOR * attention
    )
    total += num_checkpointed * (_forward_flops(linears, num_tokens) + attention)
    total += _last_layer_flops(context, linears, batch)
    head = 2 * batch.num_labels * language.hidden_size * model_shape.vocab_size
    total += head * (3 if model_shape.trains("language.rest", "head") else 2)
    if context.training.vision_feature_cache is None:
        trains_vision = model_shape.trains("vision")
        total += vision_flops(model_shape, batch.num_images, include_backward=trains_vision)
    projector = [linear for linear in model_shape.linears if linear.module_group == "projector"]
    return total + _forward_flops(projector, batch.num_images * model_shape.num_patches)


def _last_layer_flops(context: MemoryContext, linears: list[Linear], batch: BatchShape) -> float:
    language = context.model_shape.language
    key_value = 2 * 2 * language.hidden_size * language.num_key_value_heads * language.head_dim
    attention = _attention_flops(language, batch.num_labels, batch.seq_len)
    return (
        _training_flops(linears, batch.num_labels)
        + 2 * key_value * (batch.num_tokens - batch.num_labels)
        + _ATTENTION_TRAINING_FACTOR * attention
    )


def vision_flops(
    model_shape: ModelShape, num_images: int, *, include_backward: bool = False
) -> float:
    """Return the operations of the vision tower."""
    num_tokens, num_layers = num_images * model_shape.num_patches, model_shape.vision.num_layers
    linears = linears_of_one_layer(model_shape.linears, "vision", num_layers)
    attention = _attention_flops(model_shape.vision, num_tokens, model_shape.num_patches)
    if include_backward:
        attention *= _ATTENTION_TRAINING_FACTOR
        return num_layers * (_training_flops(linears, num_tokens) + attention)
    return num_layers * (_forward_flops(linears, num_tokens) + attention)


def dequantization_bytes(context: MemoryContext) -> float:
    """Return the memory traffic of dequantization per micro-batch.

    In each pass quantized weights are read, and dequantized ones written and read.
    """
    precision = context.precision
    if precision.quantization_bits is None:
        return 0.0
    num_weights = sum(linear.num_weights for linear in context.model_shape.language_linears)
    num_passes = 3 if context.training.gradient_checkpointing else 2
    bytes_per_weight = precision.quantization_bits / 8 + 2 * precision.bytes_per_element
    return num_passes * num_weights * bytes_per_weight


def _forward_flops(linears: Iterable[Linear], num_tokens: int) -> float:
    return sum(2.0 * num_tokens * linear.num_weights for linear in linears)


def _training_flops(linears: list[Linear], num_tokens: int) -> float:
    """Return the operations of linear layers, forward and backward, with their LoRA factors."""
    weight_gradients = _forward_flops(
        [linear for linear in linears if linear.trainable], num_tokens
    )
    lora = sum(
        6.0 * num_tokens * linear.rank * (linear.in_features + linear.out_features)
        for linear in linears
    )
    return 2 * _forward_flops(linears, num_tokens) + weight_gradients + lora


def _attention_flops(tower: Tower, num_queries: int, num_keys: int) -> float:
    """Return the operations of the products query x key and softmax x value, forward."""
    return 4.0 * num_queries * num_keys * tower.num_heads * tower.head_dim
