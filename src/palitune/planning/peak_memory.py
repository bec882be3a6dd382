"""The peak memory of an optimizer step, by part: the highest of a few moments of the step.

Every function gives bytes; its docstring names the tensors, and the module that makes them.
"""

from dataclasses import dataclass

from palitune.models.attention import QUERIES_PER_CHUNK
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
)
from palitune.planning.model_shapes import ModelShape
from palitune.planning.static_memory import (
    MemoryBreakdown,
    MemoryContext,
    bytes_per_trainable_parameter,
    is_full_finetuning,
    static_bytes,
)
from palitune.training.config import TrainingConfig

CUDA_CONTEXT_BYTES = 3 << 28
"""0.75 GiB: the context, kernels and cuBLAS workspaces of an H100; an estimate."""
FRAGMENTATION_RATIO = 0.05
"""Share of what a step allocates that the CUDA allocator holds besides; an estimate."""


@dataclass(frozen=True)
class Peak:
    """The highest moment of a step."""

    phase: str
    breakdown: MemoryBreakdown
    """At that moment."""

    @property
    def total_bytes(self) -> int:
        return sum(self.breakdown.values())

    @property
    def step_bytes(self) -> int:
        """Bytes of the tensors that the step makes, over those that are there before it."""
        return sum(size for part, size in self.breakdown.items() if part not in NOT_STEP_TENSORS)


NOT_STEP_TENSORS = (
    *("base weights", "adapter", "optimizer state", "batch"),
    *("CUDA context", "fragmentation"),
)
"""Parts that are there between two steps, or no tensors."""


def peak_memory(context: MemoryContext, batch: BatchShape) -> Peak:
    """Predict the highest moment of an optimizer step whose micro-batches are like `batch`."""
    before = static_bytes(context, batch)
    moments = {name: before | added for name, added in _memory_by_phase(context, batch).items()}
    highest = max(moments, key=lambda name: sum(moments[name].values()))
    parts = moments[highest]
    if context.device == "cuda":
        allocated = sum(parts[part] for part in parts if part not in before)
        parts["fragmentation"] = int(FRAGMENTATION_RATIO * allocated)
        parts["CUDA context"] = CUDA_CONTEXT_BYTES
    return Peak(highest, parts)


def _memory_by_phase(context: MemoryContext, batch: BatchShape) -> dict[str, MemoryBreakdown]:
    """What a step adds, at each moment that may be the highest."""
    paper, p = context.model_shape, context.precision
    t, e = batch.batch_size * batch.seq_len, p.bytes_per_element
    kept = _vision_activation_bytes(context, batch) | {
        "masks and angles": attention_mask_bytes(paper, batch, e)
    }
    layers = _decoder_activation_bytes(context, batch)
    every = sum(layers)
    gradients = bytes_per_trainable_parameter(context) * sum(
        size for _, size in paper.trainable_tensors
    )
    if is_full_finetuning(paper) and paper.trains("language.rest", "head"):
        # The head adds to the embeddings' gradient at the start of the backward pass.
        table = paper.parameter_counts["head"] * FLOAT32_BYTES
    else:
        table = 0
    early = gradients if context.accumulates_gradients else table
    embedded = (t + batch.num_images * paper.num_patches) * paper.language.hidden_size * e
    moments = {
        "vision tower": {
            "vision tower": vision_forward_bytes(context, batch),
            "gradients": gradients if context.accumulates_gradients else 0,
        },
        "masks": {"masks and angles": mask_construction_bytes(batch), "working memory": embedded},
        "end of forward pass": kept
        | {"language activations": every, "gradients": early, "working memory": embedded},
        "loss": kept
        | {
            "language activations": every,
            "gradients": early,
            "logits and loss": logits_and_loss_bytes(context, batch),
        },
        "optimizer": {"gradients": gradients, "working memory": table},
    }
    return moments | _backward_phases(context, batch, kept, layers, early, gradients)


def _backward_phases(
    context: MemoryContext,
    batch: BatchShape,
    saved_bytes: MemoryBreakdown,
    layer_bytes: list[int],
    initial_gradient_bytes: int,
    gradient_bytes: int,
) -> dict[str, MemoryBreakdown]:
    """The backward pass of each layer, those behind it being done with, and of the vision tower.

    A recomputed layer is there as a whole; its input, as long as that is in float32, once.
    """
    paper, p = context.model_shape, context.precision
    t, e, count = batch.batch_size * batch.seq_len, p.bytes_per_element, len(layer_bytes)
    linears = linears_of_one_layer(paper.linears, "language", count)
    first = attention_block_bytes(paper, linears, t, batch.seq_len, p)
    second = mlp_block_bytes(paper, linears, t, p)
    expanded = dequantized_weight_bytes(context)
    halves = {
        "MLP": (first + second, mlp_backward_bytes(paper.language, t, e)),
        "attention": (
            first,
            attention_backward_bytes(paper, batch, e, QUERIES_PER_CHUNK[context.device]),
        ),
    }
    moments = {}
    for number, own in enumerate(layer_bytes[:-1]):
        below = sum(layer_bytes[:number])
        if is_checkpointed(context.training, number, count):
            below += own if e != FLOAT32_BYTES else 0
        elif number == 0 and not context.training.activation_offloading:
            below -= first + second - own
        for half, (size, working) in halves.items():
            moments[f"backward pass of {half} {number + 1}"] = saved_bytes | {
                "language activations": below + size,
                "gradients": max(
                    initial_gradient_bytes, int((1 - number / count) * gradient_bytes)
                ),
                "working memory": working + expanded,
            }
    if vision := saved_bytes.get("vision tower"):
        t = batch.num_images * paper.num_patches
        recomputed = 0
        if context.training.gradient_checkpointing:
            own_linears = linears_of_one_layer(paper.linears, "vision", paper.vision.num_layers)
            recomputed = encoder_layer_bytes(paper, own_linears, batch, p)
        moments["backward pass of the vision tower"] = {
            "vision tower": vision + recomputed,
            "gradients": gradient_bytes,
            "working memory": mlp_backward_bytes(paper.vision, t, p.bytes_per_element),
        }
    return moments


def _decoder_activation_bytes(context: MemoryContext, batch: BatchShape) -> list[int]:
    """What each language layer keeps until its backward pass: all, or its input.

    Where nothing below is trained, the first layer's norm keeps nothing, its input needing no
    gradient; with checkpointing PEFT makes it need one. Offloaded, all is in the host's memory.
    """
    paper, p, settings = context.model_shape, context.precision, context.training
    t, count = batch.batch_size * batch.seq_len, paper.language.num_layers
    if settings.activation_offloading:
        return [0] * count
    linears = linears_of_one_layer(paper.linears, "language", count)
    whole = decoder_layer_bytes(paper, linears, t, batch.seq_len, p)
    kept = [
        t * paper.language.hidden_size * p.bytes_per_element
        if is_checkpointed(settings, number, count)
        else whole
        for number in range(count - 1)
    ]
    below = paper.trains("vision", "projector") or is_full_finetuning(paper)
    if kept and not below and not settings.gradient_checkpointing:
        kept[0] -= t * FLOAT32_BYTES * (paper.language.hidden_size + 1)
    return [*kept, last_decoder_layer_bytes(paper, linears, batch, p)]


def is_checkpointed(settings: TrainingConfig, layer_index: int, num_layers: int) -> bool:
    """As `holding.Layers`; the last layer is never recomputed (`language.hidden_at`)."""
    share = settings.gradient_checkpointing_ratio
    chosen = int((layer_index + 1) * share) > int(layer_index * share)
    return settings.gradient_checkpointing and chosen and layer_index < num_layers - 1


def _vision_activation_bytes(context: MemoryContext, batch: BatchShape) -> MemoryBreakdown:
    """What the vision tower and the projector keep where something in or below them is trained.

    Patch embedding: pixels as numbers. Projector: its input, images x patches x width of the tower.
    """
    paper, p, total = context.model_shape, context.precision, 0
    t = batch.num_images * paper.num_patches
    if paper.trains("vision"):
        linears = linears_of_one_layer(paper.linears, "vision", paper.vision.num_layers)
        one = encoder_layer_bytes(paper, linears, batch, p)
        if context.training.gradient_checkpointing:
            one = t * paper.vision.hidden_size * p.bytes_per_element
        total += paper.vision.num_layers * one
    if paper.trains("vision.rest"):
        total += batch.num_images * 3 * paper.image_size**2 * p.bytes_per_element
    if paper.trains("projector"):
        total += t * paper.vision.hidden_size * p.bytes_per_element
    return {"vision tower": total} if total else {}


def vision_forward_bytes(context: MemoryContext, batch: BatchShape) -> int:
    """The frozen tower at its highest: of a layer the residual and the norm's result, t x d each,
    fc1 and gelu, t x m each; before it pixels in float32 and as patches.
    """
    if context.training.vision_feature_cache is not None or context.model_shape.trains("vision"):
        return 0
    tower, t, e = (
        context.model_shape.vision,
        batch.num_images * context.model_shape.num_patches,
        context.precision.bytes_per_element,
    )
    pixels = 3 * context.model_shape.image_size**2 * batch.num_images
    layer = t * (2 * tower.hidden_size + 2 * tower.intermediate_size) * e
    return max(layer, pixels * (FLOAT32_BYTES + 2 * e))


def attention_mask_bytes(model_shape: ModelShape, batch: BatchShape, bytes_per_element: int) -> int:
    """Who sees whom: rows x tokens x tokens bool, twice where layers have a window; as numbers for
    eager attention. Cosine and sine: rows x tokens x width of a head each.
    """
    each = bytes_per_element if model_shape.attn_implementation == "eager" else 1
    per_token = (
        batch.seq_len * each * (1 + model_shape.has_sliding_window)
        + 2 * model_shape.language.head_dim * bytes_per_element
    )
    return batch.batch_size * batch.seq_len * per_token


def mask_construction_bytes(batch: BatchShape) -> int:
    """Masks in the making: the distance of every pair as int64, and four bools."""
    return batch.batch_size * batch.seq_len**2 * 12


def logits_and_loss_bytes(context: MemoryContext, batch: BatchShape) -> int:
    """The head and its loss (`head.token_losses`), n labels a chunk at a time.

    Hidden states, the same by label, and their gradient: labels x d each, and the final norm's
    input in float32. Of a chunk: logits and the exponentials of their sum, chunk x vocabulary
    float32 each; one more with a soft-cap, and one of the chunk before. With LoRA on the head
    (`token_losses_through`) three.
    """
    paper, e = context.model_shape, context.precision.bytes_per_element
    width = paper.language.hidden_size
    chunk = max(1, CHUNK_BYTES[context.device] // (FLOAT32_BYTES * paper.vocab_size))
    copies = (
        3 if paper.trains("head") and not is_full_finetuning(paper) else 2 + paper.has_logit_softcap
    )
    copies += batch.num_labels > chunk
    rows = min(chunk, batch.num_labels)
    return (
        batch.num_labels * width * (3 * e + FLOAT32_BYTES)
        + rows * paper.vocab_size * FLOAT32_BYTES * copies
    )


def dequantized_weight_bytes(context: MemoryContext) -> int:
    """The largest weight as bitsandbytes expands it in the backward pass: inputs x outputs."""
    if context.precision.quantization_bits is None:
        return 0
    largest = max(
        one.in_features * one.out_features for one in context.model_shape.language_linears
    )
    return largest * context.precision.bytes_per_element
