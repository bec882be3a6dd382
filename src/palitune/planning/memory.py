"""The peak memory of an optimizer step, by part: the highest of a few moments of the step.

Every function gives bytes; its docstring names the tensors, and the module that makes them.
"""

from dataclasses import dataclass

from palitune.models.attention import QUERIES_PER_CHUNK
from palitune.models.head import CHUNK_BYTES
from palitune.planning.activations import (
    FLOAT,
    Batch,
    attention_backward,
    attention_half,
    language_layer,
    last_layer,
    mlp_backward,
    mlp_half,
    of_one_layer,
    vision_layer,
)
from palitune.planning.held import Parts, Setup, held, is_full, trained_bytes
from palitune.planning.on_paper import Paper
from palitune.training.settings import Training

CUDA_CONTEXT = 3 << 28
"""0.75 GiB: the context, kernels and cuBLAS workspaces of an H100; an estimate."""
FRAGMENTATION = 0.05
"""Share of what a step allocates that the CUDA allocator holds besides; an estimate."""


@dataclass(frozen=True)
class Peak:
    """The highest moment of a step."""

    moment: str
    parts: Parts
    """At that moment."""

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def step(self) -> int:
        """Bytes of the tensors that the step makes, over those that are there before it."""
        return sum(size for part, size in self.parts.items() if part not in BESIDES)


BESIDES = (
    *("base weights", "adapter", "optimizer state", "batch"),
    *("CUDA context", "fragmentation"),
)
"""Parts that are there between two steps, or no tensors."""


def peak(setup: Setup, batch: Batch) -> Peak:
    """Predict the highest moment of an optimizer step whose micro-batches are like `batch`."""
    before = held(setup, batch)
    moments = {name: before | added for name, added in _moments(setup, batch).items()}
    highest = max(moments, key=lambda name: sum(moments[name].values()))
    parts = moments[highest]
    if setup.device == "cuda":
        allocated = sum(parts[part] for part in parts if part not in before)
        parts["fragmentation"] = int(FRAGMENTATION * allocated)
        parts["CUDA context"] = CUDA_CONTEXT
    return Peak(highest, parts)


def _moments(setup: Setup, batch: Batch) -> dict[str, Parts]:
    """What a step adds, at each moment that may be the highest."""
    paper, p = setup.paper, setup.precision
    t, e = batch.rows * batch.tokens, p.bytes
    kept = _vision_kept(setup, batch) | {"masks and angles": masks(paper, batch, e)}
    layers = _language_kept(setup, batch)
    every = sum(layers)
    gradients = trained_bytes(setup) * sum(size for _, size in paper.trained)
    if is_full(paper) and paper.trains("language.rest", "head"):
        # The head adds to the embeddings' gradient at the start of the backward pass.
        table = paper.parameters["head"] * FLOAT
    else:
        table = 0
    early = gradients if setup.accumulated else table
    embedded = (t + batch.images * paper.patches) * paper.language.width * e
    moments = {
        "vision tower": {
            "vision tower": vision_forward(setup, batch),
            "gradients": gradients if setup.accumulated else 0,
        },
        "masks": {"masks and angles": masks_made(batch), "working memory": embedded},
        "end of forward pass": kept
        | {"language activations": every, "gradients": early, "working memory": embedded},
        "loss": kept
        | {
            "language activations": every,
            "gradients": early,
            "logits and loss": logits(setup, batch),
        },
        "optimizer": {"gradients": gradients, "working memory": table},
    }
    return moments | _backward(setup, batch, kept, layers, early, gradients)


def _backward(
    setup: Setup, batch: Batch, kept: Parts, layers: list[int], early: int, gradients: int
) -> dict[str, Parts]:
    """The backward pass of each layer, those behind it being done with, and of the vision tower.

    A recomputed layer is there as a whole; its input, as long as that is in float32, once.
    """
    paper, p = setup.paper, setup.precision
    t, e, count = batch.rows * batch.tokens, p.bytes, len(layers)
    linears = of_one_layer(paper.linears, "language", count)
    first = attention_half(paper, linears, t, batch.tokens, p)
    second = mlp_half(paper, linears, t, p)
    expanded = dequantized(setup)
    halves = {
        "MLP": (first + second, mlp_backward(paper.language, t, e)),
        "attention": (
            first,
            attention_backward(paper, batch, e, QUERIES_PER_CHUNK[setup.device]),
        ),
    }
    moments = {}
    for number, own in enumerate(layers[:-1]):
        below = sum(layers[:number])
        if is_checkpointed(setup.training, number, count):
            below += own if e != FLOAT else 0
        elif number == 0 and not setup.training.offload_activations:
            below -= first + second - own
        for half, (size, working) in halves.items():
            moments[f"backward pass of {half} {number + 1}"] = kept | {
                "language activations": below + size,
                "gradients": max(early, int((1 - number / count) * gradients)),
                "working memory": working + expanded,
            }
    if vision := kept.get("vision tower"):
        t = batch.images * paper.patches
        recomputed = 0
        if setup.training.gradient_checkpointing:
            own_linears = of_one_layer(paper.linears, "vision", paper.vision.layers)
            recomputed = vision_layer(paper, own_linears, batch, p)
        moments["backward pass of the vision tower"] = {
            "vision tower": vision + recomputed,
            "gradients": gradients,
            "working memory": mlp_backward(paper.vision, t, p.bytes),
        }
    return moments


def _language_kept(setup: Setup, batch: Batch) -> list[int]:
    """What each language layer keeps until its backward pass: all, or its input.

    Where nothing below is trained, the first layer's norm keeps nothing, its input needing no
    gradient; with checkpointing PEFT makes it need one. Offloaded, all is in the host's memory.
    """
    paper, p, settings = setup.paper, setup.precision, setup.training
    t, count = batch.rows * batch.tokens, paper.language.layers
    if settings.offload_activations:
        return [0] * count
    linears = of_one_layer(paper.linears, "language", count)
    whole = language_layer(paper, linears, t, batch.tokens, p)
    kept = [
        t * paper.language.width * p.bytes if is_checkpointed(settings, number, count) else whole
        for number in range(count - 1)
    ]
    below = paper.trains("vision", "projector") or is_full(paper)
    if kept and not below and not settings.gradient_checkpointing:
        kept[0] -= t * FLOAT * (paper.language.width + 1)
    return [*kept, last_layer(paper, linears, batch, p)]


def is_checkpointed(settings: Training, number: int, count: int) -> bool:
    """As `holding.Layers`; the last layer is never recomputed (`language.hidden_at`)."""
    share = settings.checkpointed_share
    chosen = int((number + 1) * share) > int(number * share)
    return settings.gradient_checkpointing and chosen and number < count - 1


def _vision_kept(setup: Setup, batch: Batch) -> Parts:
    """What the vision tower and the projector keep where something in or below them is trained.

    Patch embedding: pixels as numbers. Projector: its input, images x patches x width of the tower.
    """
    paper, p, total = setup.paper, setup.precision, 0
    t = batch.images * paper.patches
    if paper.trains("vision"):
        linears = of_one_layer(paper.linears, "vision", paper.vision.layers)
        one = vision_layer(paper, linears, batch, p)
        if setup.training.gradient_checkpointing:
            one = t * paper.vision.width * p.bytes
        total += paper.vision.layers * one
    if paper.trains("vision.rest"):
        total += batch.images * 3 * paper.side**2 * p.bytes
    if paper.trains("projector"):
        total += t * paper.vision.width * p.bytes
    return {"vision tower": total} if total else {}


def vision_forward(setup: Setup, batch: Batch) -> int:
    """The frozen tower at its highest: of a layer the residual and the norm's result, t x d each,
    fc1 and gelu, t x m each; before it pixels in float32 and as patches.
    """
    if setup.training.vision_cache is not None or setup.paper.trains("vision"):
        return 0
    tower, t, e = setup.paper.vision, batch.images * setup.paper.patches, setup.precision.bytes
    pixels = 3 * setup.paper.side**2 * batch.images
    layer = t * (2 * tower.width + 2 * tower.mlp) * e
    return max(layer, pixels * (FLOAT + 2 * e))


def masks(paper: Paper, batch: Batch, e: int) -> int:
    """Who sees whom: rows x tokens x tokens bool, twice where layers have a window; as numbers for
    eager attention. Cosine and sine: rows x tokens x width of a head each.
    """
    each = e if paper.attention == "eager" else 1
    per_token = batch.tokens * each * (1 + paper.windowed) + 2 * paper.language.head_width * e
    return batch.rows * batch.tokens * per_token


def masks_made(batch: Batch) -> int:
    """Masks in the making: the distance of every pair as int64, and four bools."""
    return batch.rows * batch.tokens**2 * 12


def logits(setup: Setup, batch: Batch) -> int:
    """The head and its loss (`head.token_losses`), n labels a chunk at a time.

    Hidden states, the same by label, and their gradient: labels x d each, and the final norm's
    input in float32. Of a chunk: logits and the exponentials of their sum, chunk x vocabulary
    float32 each; one more with a soft-cap, and one of the chunk before. With LoRA on the head
    (`token_losses_through`) three.
    """
    paper, e = setup.paper, setup.precision.bytes
    width = paper.language.width
    chunk = max(1, CHUNK_BYTES[setup.device] // (FLOAT * paper.vocabulary))
    copies = 3 if paper.trains("head") and not is_full(paper) else 2 + paper.capped_logits
    copies += batch.labels > chunk
    rows = min(chunk, batch.labels)
    return batch.labels * width * (3 * e + FLOAT) + rows * paper.vocabulary * FLOAT * copies


def dequantized(setup: Setup) -> int:
    """The largest weight as bitsandbytes expands it in the backward pass: inputs x outputs."""
    if setup.precision.bits is None:
        return 0
    largest = max(one.inputs * one.outputs for one in setup.paper.language_linears)
    return largest * setup.precision.bytes
