"""Bytes of the activations that layers save for their backward pass, tensor by tensor.

The tensors are those that PyTorch's autograd saves for the modules of transformers' Gemma, Gemma 2
and SigLIP, with the attention of `palitune.models.attention` and the LoRA layers of
`palitune.models.adapters.fast_lora`. Docstrings give their shapes as tokens x width (hidden size),
where tokens = rows x padded length. A linear layer saves its input only if its weight, or LoRA on
it, is trained.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from palitune.models.attention import CHUNKED_ATTENTION, FLEX_ATTENTION, SDPA_ATTENTION
from palitune.planning.model_shapes import Linear, ModelShape, Tower

FLOAT32_BYTES = 4
"""Bytes of a float32 number. Norms and softmax compute in float32 in every precision."""


@dataclass(frozen=True)
class BatchShape:
    """The shape of a micro-batch."""

    batch_size: int
    seq_len: int
    """Tokens per row with images; all rows are padded to the longest."""
    num_labels: int
    """Suffix tokens of all rows."""
    num_images: int

    @property
    def num_tokens(self) -> int:
        """Tokens of all rows with padding."""
        return self.batch_size * self.seq_len


@dataclass(frozen=True)
class Precision:
    """Precision of the base model and of its quantized linear layers."""

    bytes_per_element: int
    """Bytes of a number in the compute dtype: 4 for float32, 2 for bfloat16 and float16."""
    quantization_bits: int | None
    """Bits of a quantized weight; None without quantization."""
    extra_input_copies: int = 0
    """Additional float32 copies of each LoRA input that PEFT saves with dropout."""
    extra_output_copies: int = 0
    """Additional float32 copies of each LoRA output that PEFT saves with DoRA."""
    autocast: bool = False
    """Whether products of float32 weights are computed in bf16 (`resolve_autocast_dtype`)."""


def decoder_layer_bytes(
    model_shape: ModelShape,
    linears: list[Linear],
    num_tokens: int,
    num_keys: int,
    precision: Precision,
) -> int:
    """Return the bytes that a decoder layer saves.

    Args:
        model_shape: Shape of the network.
        linears: Linear layers of one decoder layer.
        num_tokens: Number of query tokens of all rows.
        num_keys: Number of tokens that each query attends to.
        precision: Precision of the network.
    """
    attention = attention_block_bytes(model_shape, linears, num_tokens, num_keys, precision)
    return attention + mlp_block_bytes(model_shape, linears, num_tokens, precision)


def attention_block_bytes(
    model_shape: ModelShape,
    linears: list[Linear],
    num_tokens: int,
    num_keys: int,
    precision: Precision,
) -> int:
    """Return the bytes that the attention block of a decoder layer saves.

    Its norms, the input of the q/k/v projections (tokens x width), attention and LoRA. The
    arguments are those of `decoder_layer_bytes`.
    """
    width = model_shape.language.hidden_size
    saves_input = saves_input_for_backward(linears, "language.attention", precision)
    return (
        num_tokens * width * precision.bytes_per_element * saves_input
        + _norms_per_block(model_shape) * norm_bytes(model_shape, num_tokens, precision)
        + attention_bytes(model_shape, num_tokens, num_keys, precision.bytes_per_element)
        + lora_bytes(_in_block(linears, "attention"), num_tokens, precision)
    )


def mlp_block_bytes(
    model_shape: ModelShape, linears: list[Linear], num_tokens: int, precision: Precision
) -> int:
    """Return the bytes that the MLP block of a decoder layer saves.

    Its norms; gate, gelu(gate) and up, tokens x MLP width each; the input of gate and up, tokens x
    width, and that of down, tokens x MLP width; LoRA. The arguments are those of
    `decoder_layer_bytes`.
    """
    tower = model_shape.language
    saves_input = saves_input_for_backward(linears, "language.mlp", precision)
    per_token = 3 * tower.intermediate_size
    per_token += (tower.hidden_size + tower.intermediate_size) * saves_input
    return (
        num_tokens * per_token * precision.bytes_per_element
        + _norms_per_block(model_shape) * norm_bytes(model_shape, num_tokens, precision)
        + lora_bytes(_in_block(linears, "mlp"), num_tokens, precision)
    )


def norm_bytes(model_shape: ModelShape, num_tokens: int, precision: Precision) -> int:
    """Return the bytes that a norm of Gemma saves.

    Its input, tokens x width, and one number per token. A trained norm saves the input in float32,
    and the normalized input.
    """
    width = model_shape.language.hidden_size
    if model_shape.trains("language.rest"):
        return num_tokens * FLOAT32_BYTES * (1 + 2 * width)
    return num_tokens * (FLOAT32_BYTES + width * precision.bytes_per_element)


def _in_block(linears: list[Linear], block: str) -> list[Linear]:
    return [linear for linear in linears if block in linear.module_group]


def _norms_per_block(model_shape: ModelShape) -> int:
    """Norms of an attention or MLP block: Gemma 2 has one before and one after it."""
    return 2 if model_shape.family == "paligemma2" else 1


def attention_bytes(
    model_shape: ModelShape, num_tokens: int, num_keys: int, bytes_per_element: int
) -> int:
    """Return the bytes that an attention implementation saves.

    Query and output, tokens x heads x head size each; key and value, tokens x key-value heads x
    head size each; and

    - chunked and flex: the log-sum-exp of each softmax, tokens x heads float32;
    - sdpa: the same; keys and values repeated for all heads (transformers does so if there is a
      mask); the additive mask, tokens x keys;
    - eager: keys and values repeated for all heads; for each of the tokens x heads x keys scores
      the softmax in float32, its copy in the compute dtype if that differs, and tanh(score) if
      scores are soft-capped.

    Args:
        model_shape: Shape of the network.
        num_tokens: Number of query tokens of all rows.
        num_keys: Number of tokens that each query attends to.
        bytes_per_element: Bytes of a number in the compute dtype.
    """
    tower = model_shape.language
    head_bytes = tower.head_dim * bytes_per_element
    if model_shape.attn_implementation in (CHUNKED_ATTENTION, FLEX_ATTENTION):
        num_vectors = 2 * tower.num_heads + 2 * tower.num_key_value_heads
        return num_tokens * (num_vectors * head_bytes + tower.num_heads * FLOAT32_BYTES)
    repeated = 4 * tower.num_heads * head_bytes
    if model_shape.attn_implementation == SDPA_ATTENTION:
        log_sum_exp = tower.num_heads * FLOAT32_BYTES
        return num_tokens * (repeated + log_sum_exp + num_keys * bytes_per_element)
    per_score = (
        FLOAT32_BYTES
        + bytes_per_element * (bytes_per_element != FLOAT32_BYTES)
        + bytes_per_element * model_shape.has_attn_softcap
    )
    return num_tokens * (repeated + tower.num_heads * num_keys * per_score)


def last_decoder_layer_bytes(
    model_shape: ModelShape, linears: list[Linear], batch: BatchShape, precision: Precision
) -> int:
    """Return the bytes that the last decoder layer saves.

    Its input, keys and values exist for all tokens, everything else only for those that predict a
    label (`palitune.models.decoder_layers.run_decoder`).
    """
    tower = model_shape.language
    key_value_width = 2 * tower.num_key_value_heads * tower.head_dim
    saves_input = saves_input_for_backward(linears, "language.attention", precision)
    per_token = FLOAT32_BYTES * (tower.hidden_size + 1) + precision.bytes_per_element * (
        key_value_width + tower.hidden_size * saves_input
    )
    return batch.num_tokens * per_token + decoder_layer_bytes(
        model_shape, linears, batch.num_labels, batch.seq_len, precision
    )


def encoder_layer_bytes(
    model_shape: ModelShape, linears: list[Linear], batch: BatchShape, precision: Precision
) -> int:
    """Return the bytes that a vision layer saves if it, or a layer below it, is trained.

    With tokens = images x patches. Inputs of the two norms; query, key, value and output; inputs of
    q/k/v and of fc1: tokens x width each. Outputs of fc1 and of gelu: tokens x MLP width each.
    Log-sum-exp of the softmax: tokens x heads float32.
    """
    tower = model_shape.vision
    num_tokens = batch.num_images * model_shape.num_patches
    attention_input = saves_input_for_backward(linears, "vision.attention", precision)
    mlp_input = saves_input_for_backward(linears, "vision.mlp", precision)
    per_token = 6 * tower.hidden_size + tower.intermediate_size
    per_token += tower.hidden_size * attention_input
    per_token += (tower.hidden_size + tower.intermediate_size) * mlp_input
    token_bytes = per_token * precision.bytes_per_element + tower.num_heads * FLOAT32_BYTES
    return num_tokens * token_bytes + lora_bytes(linears, num_tokens, precision)


def saves_input_for_backward(
    linears: Iterable[Linear], module_group: str, precision: Precision
) -> bool:
    """Return whether the linear layers of a module group save their input.

    The int8 layers of bitsandbytes always do.
    """
    is_int8 = precision.quantization_bits == 8 and module_group.startswith("language")
    return is_int8 or any(
        linear.module_group == module_group and (linear.rank or linear.trainable)
        for linear in linears
    )


def lora_bytes(linears: list[Linear], num_tokens: int, precision: Precision) -> int:
    """Return the bytes that LoRA saves in addition to its input.

    A(input), tokens x rank, and B in the compute dtype, rank x outputs; if that dtype is not
    float32, also a copy of A, rank x inputs. With dropout or DoRA, PEFT's own layers save
    additional float32 copies of inputs and outputs.
    """
    total = 0
    for linear in linears:
        if not linear.rank:
            continue
        casts_a = precision.bytes_per_element != FLOAT32_BYTES
        numbers = num_tokens + linear.out_features + linear.in_features * casts_a
        total += linear.rank * numbers * precision.bytes_per_element
        copied = (
            precision.extra_input_copies * linear.in_features
            + precision.extra_output_copies * linear.out_features
        )
        total += num_tokens * copied * FLOAT32_BYTES
    return total


def linears_of_one_layer(
    linears: Iterable[Linear], tower_name: str, num_layers: int
) -> list[Linear]:
    """Return the linear layers of the first of the `num_layers` equal layers of a tower."""
    of_tower = [linear for linear in linears if linear.module_group.startswith(f"{tower_name}.")]
    return of_tower[: len(of_tower) // num_layers]


def mlp_backward_bytes(tower: Tower, num_tokens: int, bytes_per_element: int) -> int:
    """Return the peak of temporary bytes in the backward pass of an MLP.

    Two gradients of tokens x MLP width (of the input of down, gelu(gate) and up, the first of which
    is freed by then) and three of tokens x width (of the outputs of the layer, of down and of the
    norm after it).
    """
    return num_tokens * (2 * tower.intermediate_size + 3 * tower.hidden_size) * bytes_per_element


def attention_backward_bytes(
    model_shape: ModelShape, batch: BatchShape, bytes_per_element: int, chunk_size: int
) -> int:
    """Return the peak of temporary bytes in the backward pass of attention.

    Gradients of the layer's output, tokens x width; of output and query, tokens x heads x head size
    each; of key and value; and

    - chunked: softmax and its gradient for a chunk of queries, heads x chunk x tokens float32 each,
      and tanh(score) if scores are soft-capped; the scores (and tanh) of the next chunk;
    - flex: the inner products of the output with its gradient, tokens x heads float32;
    - eager: two gradients of all scores in float32.

    Args:
        model_shape: Shape of the network.
        batch: Shape of the micro-batch.
        bytes_per_element: Bytes of a number in the compute dtype.
        chunk_size: Queries per chunk of the chunked implementation.
    """
    tower, num_tokens = model_shape.language, batch.num_tokens
    heads_width = tower.num_heads * tower.head_dim
    queries = num_tokens * (tower.hidden_size + 2 * heads_width) * bytes_per_element
    if model_shape.attn_implementation == CHUNKED_ATTENTION:
        chunk = min(chunk_size, batch.seq_len)
        next_chunk = min(chunk_size, batch.seq_len - chunk)
        has_tanh = model_shape.has_attn_softcap
        score_bytes = ((2 + has_tanh) * chunk + (1 + has_tanh) * next_chunk) * FLOAT32_BYTES
        if bytes_per_element != FLOAT32_BYTES:
            score_bytes += chunk * bytes_per_element
        keys = num_tokens * 2 * tower.num_key_value_heads * tower.head_dim * FLOAT32_BYTES
        return queries + keys + num_tokens * tower.num_heads * score_bytes
    if model_shape.attn_implementation == FLEX_ATTENTION:
        keys = num_tokens * 2 * tower.num_key_value_heads * tower.head_dim * bytes_per_element
        return queries + keys + num_tokens * tower.num_heads * FLOAT32_BYTES
    scores = 0
    if model_shape.attn_implementation != SDPA_ATTENTION:
        scores = num_tokens * tower.num_heads * batch.seq_len * 2 * FLOAT32_BYTES
    return queries + num_tokens * 2 * heads_width * bytes_per_element + scores
