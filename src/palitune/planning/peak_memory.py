"""Peak memory of an optimizer step by purpose: the maximum over the phases of the step.

Functions return bytes. Docstrings name the tensors and the modules that create them.
"""

from dataclasses import dataclass, replace

from palitune.models.attention import FLEX_ATTENTION
from palitune.models.chunked_attention import queries_per_chunk
from palitune.models.lm_head import CHUNK_BYTES
from palitune.planning.activation_bytes import (
    FLOAT32_BYTES,
    BatchShape,
    attention_backward_bytes,
    attention_block_bytes,
    decoder_layer_bytes,
    encoder_layer_bytes,
    last_decoder_layer_bytes,
    linears_of_one_layer,
    mlp_backward_bytes,
    mlp_block_bytes,
    norm_bytes,
)
from palitune.planning.model_shapes import ModelShape
from palitune.planning.static_memory import (
    MemoryBreakdown,
    MemoryContext,
    bytes_per_trainable_parameter,
    static_bytes,
)
from palitune.training.config import TrainingConfig

CUDA_CONTEXT_BYTES = 3 << 28
"""0.75 GiB for the context, kernels and cuBLAS workspaces of an H100; an estimate."""
FRAGMENTATION_RATIO = 0.05
"""Memory that the CUDA allocator reserves beyond what a step allocates; an estimate."""

NOT_STEP_TENSORS = (
    *("base weights", "adapter", "optimizer state", "batch"),
    *("CUDA context", "fragmentation"),
)
"""Purposes that exist between two steps or are not tensors."""


@dataclass(frozen=True)
class Peak:
    """The phase of a step with the highest memory."""

    phase: str
    breakdown: MemoryBreakdown
    host_bytes: int = 0
    """Bytes of offloaded activations, in the memory of the host."""

    @property
    def total_bytes(self) -> int:
        return sum(self.breakdown.values())

    @property
    def step_bytes(self) -> int:
        """Bytes of the tensors that the step creates."""
        return sum(size for name, size in self.breakdown.items() if name not in NOT_STEP_TENSORS)


def peak_memory(context: MemoryContext, batch: BatchShape) -> Peak:
    """Predict the peak memory of an optimizer step with micro-batches of this shape."""
    static = static_bytes(context, batch)
    phases = {phase: static | added for phase, added in _memory_by_phase(context, batch).items()}
    peak_phase = max(phases, key=lambda phase: sum(phases[phase].values()))
    breakdown = phases[peak_phase]
    if context.device == "cuda":
        allocated = sum(size for name, size in breakdown.items() if name not in static)
        breakdown["fragmentation"] = int(FRAGMENTATION_RATIO * allocated)
        breakdown["CUDA context"] = CUDA_CONTEXT_BYTES
    offloads = context.training.activation_offloading
    host_bytes = saved_activation_bytes(context, batch) if offloads else 0
    return Peak(peak_phase, breakdown, host_bytes)


def saved_activation_bytes(
    context: MemoryContext, batch: BatchShape, *, recomputed: bool = False
) -> int:
    """Return what all layers save in a forward pass, on their device or offloaded.

    Args:
        context: The training run.
        batch: Shape of a micro-batch.
        recomputed: Whether to count what checkpointed layers save when they are recomputed.
    """
    settings = replace(context.training, activation_offloading=False)
    if recomputed:
        settings = replace(settings, gradient_checkpointing=False)
    kept = replace(context, training=settings)
    vision = _vision_activation_bytes(kept, batch).get("vision tower", 0)
    return vision + sum(_decoder_activation_bytes(kept, batch))


def _memory_by_phase(context: MemoryContext, batch: BatchShape) -> dict[str, MemoryBreakdown]:
    """Return what a step adds to static memory in each phase that can be the peak."""
    model_shape, element_bytes = context.model_shape, context.precision.bytes_per_element
    masks = {"masks and angles": attention_mask_bytes(model_shape, batch, element_bytes)}
    saved = _vision_activation_bytes(context, batch) | masks
    layer_bytes = _decoder_activation_bytes(context, batch)
    gradients = bytes_per_trainable_parameter(context) * model_shape.num_trainable_parameters
    embedding_gradient = 0
    if model_shape.is_full_finetuning and model_shape.trains("language.rest", "head"):
        # The head adds to the embeddings' gradient at the start of the backward pass.
        embedding_gradient = model_shape.parameter_counts["head"] * FLOAT32_BYTES
    accumulated = gradients if context.accumulates_gradients else 0
    initial_gradients = gradients if context.accumulates_gradients else embedding_gradient
    num_embeddings = batch.num_tokens + batch.num_images * model_shape.num_patches
    embeddings = num_embeddings * model_shape.language.hidden_size * element_bytes
    copies = autocast_copy_bytes(context)
    forward = saved | {"language activations": sum(layer_bytes), "gradients": initial_gradients}
    forward |= {"bf16 copies of weights": copies} if copies else {}
    phases = {
        "vision tower": {
            "vision tower": vision_forward_bytes(context, batch),
            "gradients": accumulated,
        },
        "masks": {"masks and angles": mask_construction_bytes(batch), "working memory": embeddings},
        "end of forward pass": forward | {"working memory": embeddings},
        "loss": forward | {"logits and loss": logits_and_loss_bytes(context, batch)},
        "optimizer": {"gradients": gradients, "working memory": embedding_gradient},
    }
    phases |= _decoder_backward_phases(
        context, batch, saved, layer_bytes, initial_gradients, gradients
    )
    if vision := saved.get("vision tower"):
        phases["backward pass of the vision tower"] = _vision_backward_phase(
            context, batch, vision, gradients
        )
    return phases


def _decoder_backward_phases(
    context: MemoryContext,
    batch: BatchShape,
    saved: MemoryBreakdown,
    layer_bytes: list[int],
    initial_gradients: int,
    gradients: int,
) -> dict[str, MemoryBreakdown]:
    """Return the memory in the backward pass of the MLP and the attention of each decoder layer.

    The activations of the layers above are freed. A checkpointed layer is recomputed as a whole;
    its saved input is still there, unless that is in float32 and shared with the recomputation.

    Args:
        context: The training run.
        batch: Shape of a micro-batch.
        saved: Bytes saved outside the decoder layers.
        layer_bytes: Bytes that each decoder layer saves.
        initial_gradients: Bytes of the gradients that exist before the backward pass.
        gradients: Bytes of all gradients.
    """
    model_shape, precision = context.model_shape, context.precision
    num_tokens, num_layers = batch.num_tokens, len(layer_bytes)
    linears = linears_of_one_layer(model_shape.linears, "language", num_layers)
    attention = attention_block_bytes(model_shape, linears, num_tokens, batch.seq_len, precision)
    mlp = mlp_block_bytes(model_shape, linears, num_tokens, precision)
    score_bytes_per_query = num_tokens * model_shape.language.num_heads * FLOAT32_BYTES
    attention_working = attention_backward_bytes(
        model_shape,
        batch,
        precision.bytes_per_element,
        queries_per_chunk(context.device, score_bytes_per_query),
    )
    mlp_working = mlp_backward_bytes(model_shape.language, num_tokens, precision.bytes_per_element)
    dequantized = dequantized_weight_bytes(context)
    copies = autocast_copy_bytes(context)
    phases = {}
    for layer, own_bytes in enumerate(layer_bytes[:-1]):
        below = sum(layer_bytes[:layer])
        if is_checkpointed(context.training, layer, num_layers):
            below += own_bytes if precision.bytes_per_element != FLOAT32_BYTES else 0
        elif layer == 0 and not context.training.activation_offloading:
            below -= attention + mlp - own_bytes
        layer_gradients = max(initial_gradients, int((1 - layer / num_layers) * gradients))
        for block, activations, working in (
            ("MLP", attention + mlp, mlp_working),
            ("attention", attention, attention_working),
        ):
            phases[f"backward pass of {block} {layer + 1}"] = saved | {
                "language activations": below + activations,
                "gradients": layer_gradients,
                "working memory": working + dequantized,
            }
            if copies:  # the backward pass of a layer is the last use of its own
                kept = int((layer + 1) / num_layers * copies)
                phases[f"backward pass of {block} {layer + 1}"]["bf16 copies of weights"] = kept
    return phases


def autocast_copy_bytes(context: MemoryContext) -> int:
    """Return the bytes of the bf16 copies of trained weights that autocast makes.

    It casts the weight of a linear layer once in a forward pass; the backward pass needs the copy.
    """
    if not context.precision.autocast:
        return 0
    trained = (linear for linear in context.model_shape.linears if linear.trainable)
    return 2 * sum(linear.num_weights for linear in trained)


def _vision_backward_phase(
    context: MemoryContext, batch: BatchShape, vision_bytes: int, gradients: int
) -> MemoryBreakdown:
    model_shape, precision = context.model_shape, context.precision
    recomputed = 0
    if context.training.gradient_checkpointing:
        recomputed = _encoder_layer_bytes(context, batch)
    num_tokens = batch.num_images * model_shape.num_patches
    working = mlp_backward_bytes(model_shape.vision, num_tokens, precision.bytes_per_element)
    return {
        "vision tower": vision_bytes + recomputed,
        "gradients": gradients,
        "working memory": working,
    }


def _encoder_layer_bytes(context: MemoryContext, batch: BatchShape) -> int:
    model_shape = context.model_shape
    linears = linears_of_one_layer(model_shape.linears, "vision", model_shape.vision.num_layers)
    return encoder_layer_bytes(model_shape, linears, batch, context.precision)


def _decoder_activation_bytes(context: MemoryContext, batch: BatchShape) -> list[int]:
    """Return what each decoder layer saves until its backward pass.

    A checkpointed layer saves its input only. If nothing below the first layer is trained, its
    input needs no gradient and its norm saves nothing; with checkpointing PEFT makes the input
    require a gradient. Offloaded activations are in host memory.
    """
    model_shape, precision = context.model_shape, context.precision
    settings, num_layers = context.training, context.model_shape.language.num_layers
    if settings.activation_offloading:
        return [0] * num_layers
    width = model_shape.language.hidden_size
    linears = linears_of_one_layer(model_shape.linears, "language", num_layers)
    whole = decoder_layer_bytes(model_shape, linears, batch.num_tokens, batch.seq_len, precision)
    layer_input = batch.num_tokens * width * precision.bytes_per_element
    layer_bytes = [
        layer_input if is_checkpointed(settings, layer, num_layers) else whole
        for layer in range(num_layers - 1)
    ]
    trains_below = model_shape.trains("vision", "projector") or model_shape.is_full_finetuning
    if layer_bytes and not trains_below and not settings.gradient_checkpointing:
        layer_bytes[0] -= norm_bytes(model_shape, batch.num_tokens, precision)
    return [*layer_bytes, last_decoder_layer_bytes(model_shape, linears, batch, precision)]


def is_checkpointed(settings: TrainingConfig, layer_index: int, num_layers: int) -> bool:
    """Return whether a decoder layer is recomputed in the backward pass.

    Layers are selected as in `palitune.training.activation_memory`. The last layer is never
    recomputed (`palitune.models.decoder_layers.run_decoder`).
    """
    ratio = settings.gradient_checkpointing_ratio
    is_selected = int((layer_index + 1) * ratio) > int(layer_index * ratio)
    return settings.gradient_checkpointing and is_selected and layer_index < num_layers - 1


def _vision_activation_bytes(context: MemoryContext, batch: BatchShape) -> MemoryBreakdown:
    """Return what vision tower and projector save if something in or below them is trained.

    The patch embedding saves the pixels in the compute dtype, the projector its input, images x
    patches x width of the tower.
    """
    model_shape, element_bytes = context.model_shape, context.precision.bytes_per_element
    tower, num_tokens = model_shape.vision, batch.num_images * model_shape.num_patches
    features = num_tokens * tower.hidden_size * element_bytes
    total = 0
    if model_shape.trains("vision"):
        checkpoints = context.training.gradient_checkpointing
        per_layer = features if checkpoints else _encoder_layer_bytes(context, batch)
        total += tower.num_layers * per_layer
    if model_shape.trains("vision.rest"):
        total += batch.num_images * 3 * model_shape.image_size**2 * element_bytes
    if model_shape.trains("projector"):
        total += features
    return {"vision tower": total} if total else {}


def vision_forward_bytes(context: MemoryContext, batch: BatchShape) -> int:
    """Return the peak of the forward pass of a frozen vision tower.

    In a layer: the residual and the output of the norm, tokens x width each; the outputs of fc1 and
    gelu, tokens x MLP width each. Before the layers: pixels in float32 and as patches.
    """
    model_shape, element_bytes = context.model_shape, context.precision.bytes_per_element
    if context.training.vision_feature_cache is not None or model_shape.trains("vision"):
        return 0
    tower, num_tokens = model_shape.vision, batch.num_images * model_shape.num_patches
    num_pixels = 3 * model_shape.image_size**2 * batch.num_images
    layer = num_tokens * 2 * (tower.hidden_size + tower.intermediate_size) * element_bytes
    return max(layer, num_pixels * (FLOAT32_BYTES + 2 * element_bytes))


def attention_mask_bytes(model_shape: ModelShape, batch: BatchShape, bytes_per_element: int) -> int:
    """Return the bytes of attention masks and rotary embeddings.

    Masks: rows x tokens x tokens, bool, or in the compute dtype for eager attention; a second one
    if rows are longer than the sliding window; none with flex_attention. Cosine and sine: rows x
    tokens x head size each.
    """
    mask_bytes = bytes_per_element if model_shape.attn_implementation == "eager" else 1
    window = model_shape.sliding_window
    num_masks = 1 + (window is not None and batch.seq_len > window)
    if model_shape.attn_implementation == FLEX_ATTENTION:
        num_masks = 0
    rotary_bytes = 2 * model_shape.language.head_dim * bytes_per_element
    return batch.num_tokens * (batch.seq_len * mask_bytes * num_masks + rotary_bytes)


def mask_construction_bytes(batch: BatchShape) -> int:
    """Return the temporary bytes of mask construction: four bools per token pair.

    flex_attention needs them for the map of its blocks.
    """
    return batch.num_tokens * batch.seq_len * 4


def logits_and_loss_bytes(context: MemoryContext, batch: BatchShape) -> int:
    """Return the bytes of the head and its chunked loss (`palitune.models.lm_head`).

    Hidden states, those of the labels, and their gradient, labels x width each; the input of the
    final norm in float32. For a chunk of labels: logits and their exponentials, chunk x vocabulary
    float32 each; one more with a soft-cap. With LoRA on the head there are three, and one of the
    previous chunk (`checkpointed_cross_entropy`).
    """
    model_shape, num_labels = context.model_shape, batch.num_labels
    logit_row_bytes = FLOAT32_BYTES * model_shape.vocab_size
    chunk = max(1, CHUNK_BYTES[context.device] // logit_row_bytes)
    has_lora = model_shape.trains("head") and not model_shape.is_full_finetuning
    copies = 2 + model_shape.has_logit_softcap
    if has_lora:
        copies = 3 + (num_labels > chunk)
    label_bytes = model_shape.language.hidden_size * (
        3 * context.precision.bytes_per_element + FLOAT32_BYTES
    )
    return num_labels * label_bytes + min(chunk, num_labels) * logit_row_bytes * copies


def dequantized_weight_bytes(context: MemoryContext) -> int:
    """Return the bytes of the largest weight that bitsandbytes dequantizes in the backward pass."""
    if context.precision.quantization_bits is None:
        return 0
    largest = max(linear.num_weights for linear in context.model_shape.language_linears)
    return largest * context.precision.bytes_per_element
