"""Kernel launches and memory traffic of a micro-batch on a GPU.

A step takes as long as its products and its memory traffic, or as the host needs to launch its
kernels, whichever is longer. All constants are predictions for a GPU; none was measured on one.
"""

from palitune.models.attention import CHUNKED_ATTENTION, FLEX_ATTENTION
from palitune.models.chunked_attention import queries_per_chunk
from palitune.planning.activation_bytes import FLOAT32_BYTES, BatchShape
from palitune.planning.peak_memory import is_checkpointed, saved_activation_bytes
from palitune.planning.static_memory import MemoryContext, base_weight_bytes

SECONDS_PER_LAUNCH = 6e-6
"""Host time of a kernel launch by PyTorch's eager mode: 5 to 9 microseconds on current CPUs."""
LAYER_LAUNCHES = {"paligemma": 58, "paligemma2": 94}
"""Launches of a decoder layer, forward and backward, without LoRA and without attention scores."""
LORA_LAUNCHES = 14
"""Launches that LoRA adds to a linear layer, forward and backward."""
CHUNK_LAUNCHES = 55
"""Launches per chunk of queries of the chunked attention, forward and backward."""
RECOMPUTE_SHARE = 0.4
"""Share of the launches of a layer that its recomputation repeats."""
VISION_LAYER_LAUNCHES = 15
"""Launches of a layer of the vision tower, forward."""
OTHER_LAUNCHES = 150
"""Launches of masks, embeddings, loss and optimizer.

The counts are those of a training step of the 3B models with LoRA at 304 tokens, on tensors that
pretend to be on a GPU (`tests/properties/device_counts.json`)."""
FLEX_LAUNCHES = 6
"""Launches of flex_attention, forward and backward; an estimate."""
BYTES_PER_SCORE = {False: 237, True: 326}
"""Memory traffic per attention score of the chunked attention, forward and backward, and with the
recomputation of a checkpointed layer; counted from the operands of its operations."""
ACTIVATION_PASSES = 4
"""Times that a saved activation is written or read: once each in forward and backward pass, and as
often by the elementwise operations around it."""


def micro_batch_launches(context: MemoryContext, batch: BatchShape) -> float:
    """Return the kernel launches of a micro-batch, forward and backward."""
    model_shape = context.model_shape
    num_layers = model_shape.language.num_layers
    adapted = sum(linear.rank > 0 for linear in model_shape.language_linears) / num_layers
    per_layer = LAYER_LAUNCHES[model_shape.family] + LORA_LAUNCHES * adapted
    if model_shape.attn_implementation == CHUNKED_ATTENTION:
        score_bytes = batch.num_tokens * model_shape.language.num_heads * FLOAT32_BYTES
        chunk = queries_per_chunk("cuda", score_bytes)
        per_layer += CHUNK_LAUNCHES * -(-batch.seq_len // chunk)
    elif model_shape.attn_implementation == FLEX_ATTENTION:
        per_layer += FLEX_LAUNCHES
    recomputed = _num_checkpointed(context) * RECOMPUTE_SHARE
    vision_layers = 0 if context.training.vision_feature_cache else model_shape.vision.num_layers
    backward_too = 3 if model_shape.trains("vision") else 1
    vision = VISION_LAYER_LAUNCHES * vision_layers * backward_too
    return (num_layers + recomputed) * per_layer + vision + OTHER_LAUNCHES


def micro_batch_traffic(context: MemoryContext, batch: BatchShape) -> float:
    """Return the bytes of GPU memory that a micro-batch reads or writes, without dequantization.

    Weights are read in every pass. Of the activations, saved ones are written and read, and the
    scores of the chunked attention go through memory.
    """
    model_shape, num_checkpointed = context.model_shape, _num_checkpointed(context)
    num_layers = model_shape.language.num_layers
    passes = 2 + num_checkpointed / num_layers
    weights = 0.0
    if context.precision.quantization_bits is None:
        weights = passes * base_weight_bytes(model_shape, context.precision)
    scores = 0.0
    if model_shape.attn_implementation == CHUNKED_ATTENTION:
        per_layer = batch.num_tokens * batch.seq_len * model_shape.language.num_heads
        plain = num_layers - num_checkpointed
        scores = per_layer * (
            plain * BYTES_PER_SCORE[False] + num_checkpointed * BYTES_PER_SCORE[True]
        )
    activations = ACTIVATION_PASSES * saved_activation_bytes(context, batch, recomputed=True)
    return weights + scores + activations


def _num_checkpointed(context: MemoryContext) -> int:
    num_layers = context.model_shape.language.num_layers
    return sum(is_checkpointed(context.training, layer, num_layers) for layer in range(num_layers))
