"""Peak memory of an evaluation: weights, keys and values of a batch, and its logits."""

from palitune.models.attention import CHUNKED_ATTENTION, QUERIES_PER_CHUNK
from palitune.planning.activation_bytes import FLOAT32_BYTES, BatchShape
from palitune.planning.peak_memory import (
    CUDA_CONTEXT_BYTES,
    FRAGMENTATION_RATIO,
    Peak,
    vision_forward_bytes,
)
from palitune.planning.static_memory import MemoryBreakdown, MemoryContext, static_bytes
from palitune.planning.workload import Workload

KV_BLOCK_SIZE = 64
"""Generated tokens that memory is allocated for at a time (`models.generation.kv_cache`)."""
MAX_BATCH_SIZE = 4096
"""Upper limit of the search for the largest batch."""


def evaluation_peak(
    context: MemoryContext, workload: Workload, batch_size: int, num_beams: int
) -> Peak:
    """Predict the peak memory of generation during a training, for prompts of the longest rows.

    As many tokens are generated as the longest suffix has.

    Args:
        context: The training run.
        workload: Its rows.
        batch_size: Prompts per batch.
        num_beams: Beams per prompt.
    """
    shape, eb = context.model_shape, context.precision.bytes_per_element
    prompt = workload.row_images * shape.num_patches + max(1, workload.text - workload.suffix)
    batch = BatchShape(batch_size, prompt, batch_size, batch_size * workload.row_images)
    static = static_bytes(context, batch)
    kv_token_bytes = 2 * shape.language.num_key_value_heads * shape.language.head_dim * eb
    kv_bytes = shape.language.num_layers * kv_token_bytes
    sequences = batch_size * num_beams
    generated = -(-workload.suffix // KV_BLOCK_SIZE) * KV_BLOCK_SIZE
    logits = 3 * shape.vocab_size * FLOAT32_BYTES
    phases: dict[str, MemoryBreakdown] = {
        "vision tower": {"vision tower": _vision_bytes(context, batch)},
        "prompts": {
            "keys and values": batch.num_tokens * kv_bytes,
            "working memory": _prefill_bytes(context, batch),
        },
        "generation": {
            "keys and values": batch.num_tokens * kv_bytes + sequences * generated * kv_bytes,
            "working memory": sequences * (generated + prompt) * kv_token_bytes
            + sequences * logits,
        },
    }
    phase = max(phases, key=lambda name: sum(phases[name].values()))
    breakdown = static | phases[phase]
    if context.device == "cuda":
        breakdown["fragmentation"] = int(FRAGMENTATION_RATIO * sum(phases[phase].values()))
        breakdown["CUDA context"] = CUDA_CONTEXT_BYTES
    return Peak(phase, breakdown)


def find_max_evaluation_batch_size(
    context: MemoryContext, workload: Workload, num_beams: int, max_bytes: float
) -> int:
    """Return the largest evaluation batch whose peak is at most `max_bytes`; 0 if none is."""

    def fits(size: int) -> bool:
        return evaluation_peak(context, workload, size, num_beams).total_bytes <= max_bytes

    low, high = 0, 1
    while high <= MAX_BATCH_SIZE and fits(high):
        low, high = high, 2 * high
    while high - low > 1 and low < MAX_BATCH_SIZE:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _vision_bytes(context: MemoryContext, batch: BatchShape) -> int:
    """Return the peak of the forward pass of the vision tower, which no cache replaces here."""
    shape, eb = context.model_shape, context.precision.bytes_per_element
    tower, num_tokens = shape.vision, batch.num_images * shape.num_patches
    layer = num_tokens * 2 * (tower.hidden_size + tower.intermediate_size) * eb
    return max(layer, vision_forward_bytes(context, batch))


def _prefill_bytes(context: MemoryContext, batch: BatchShape) -> int:
    """Return the peak of temporary bytes of a decoder layer in the pass over the prompts.

    The input of the layer, its norm in float32, gate, up and their product; or query, output and
    the scores of a chunk of queries.
    """
    shape, eb = context.model_shape, context.precision.bytes_per_element
    tower, tokens = shape.language, batch.num_tokens
    residual = 2 * tokens * tower.hidden_size * eb
    mlp = tokens * (3 * tower.intermediate_size * eb + tower.hidden_size * FLOAT32_BYTES)
    attention = 2 * tokens * tower.num_heads * tower.head_dim * eb
    if shape.attn_implementation == CHUNKED_ATTENTION:
        chunk = min(QUERIES_PER_CHUNK[context.device], batch.seq_len)
        copies = 2 + shape.has_attn_softcap
        attention += batch.num_tokens * tower.num_heads * chunk * copies * FLOAT32_BYTES
    return residual + max(mlp, attention)
