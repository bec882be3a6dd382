"""Bytes that layers keep for their backward pass, tensor by tensor.

`t` tokens (rows x padded length) of `e` bytes a number; d, m, h, k, w are a tower's width, MLP
width, heads, heads of keys and values, and width of a head. What a frozen layer needs for nothing
is not kept: a linear layer keeps its input only where it, or LoRA on it, is trained.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from palitune.models.attention import CHUNKED_ATTENTION, SDPA_ATTENTION
from palitune.planning.model_shapes import Linear, ModelShape, Tower

FLOAT32_BYTES = 4
"""Bytes of a float32, in which norms and softmax compute whatever the network is in."""


@dataclass(frozen=True)
class BatchShape:
    """What one forward pass sees."""

    batch_size: int
    seq_len: int
    """Of the longest row, image included: the others are padded to it."""
    num_labels: int
    """Tokens of suffixes, over all rows."""
    num_images: int


@dataclass(frozen=True)
class Precision:
    """In what the base computes, and what its language model's linear layers are stored in."""

    bytes_per_element: int
    """4: float32; 2: bfloat16 or float16."""
    quantization_bits: int | None
    """Per quantized weight; None: not quantized."""
    extra_input_copies: int = 0
    """Further copies, in float32, that PEFT keeps of each LoRA input: with dropout."""
    extra_output_copies: int = 0
    """And of each LoRA output: with DoRA."""


def decoder_layer_bytes(
    model_shape: ModelShape,
    linears: list[Linear],
    num_tokens: int,
    num_keys: int,
    precision: Precision,
) -> int:
    """What a decoder layer keeps of t tokens that attend to `keys` tokens each."""
    return attention_block_bytes(
        model_shape, linears, num_tokens, num_keys, precision
    ) + mlp_block_bytes(model_shape, linears, num_tokens, precision)


def attention_block_bytes(
    model_shape: ModelShape,
    linears: list[Linear],
    num_tokens: int,
    num_keys: int,
    precision: Precision,
) -> int:
    """Norms (see `norm`); the input of q/k/v: t x d; `attention`; LoRA."""
    width = model_shape.language.hidden_size
    kept = (
        num_tokens
        * width
        * precision.bytes_per_element
        * saves_input_for_backward(linears, "language.attention", precision)
    )
    kept += _norms_per_layer(model_shape) // 2 * norm_bytes(
        model_shape, num_tokens
    ) + attention_bytes(model_shape, num_tokens, num_keys, precision.bytes_per_element)
    return kept + lora_bytes(
        [one for one in linears if "attention" in one.module_group], num_tokens, precision
    )


def mlp_block_bytes(
    model_shape: ModelShape, linears: list[Linear], num_tokens: int, precision: Precision
) -> int:
    """Norms; gate, gelu(gate) and up: t x m each; the input of gate and up, t x d, and that of
    down, gate * up: t x m; LoRA.
    """
    tower = model_shape.language
    numbers = 3 * tower.intermediate_size
    numbers += (tower.hidden_size + tower.intermediate_size) * saves_input_for_backward(
        linears, "language.mlp", precision
    )
    kept = num_tokens * numbers * precision.bytes_per_element + _norms_per_layer(
        model_shape
    ) // 2 * norm_bytes(model_shape, num_tokens)
    return kept + lora_bytes(
        [one for one in linears if "mlp" in one.module_group], num_tokens, precision
    )


def norm_bytes(model_shape: ModelShape, num_tokens: int) -> int:
    """What GemmaRMSNorm keeps: its input in float32, t x d, and one number per token; where it is
    trained the result before its weight, too.
    """
    return (
        num_tokens
        * FLOAT32_BYTES
        * (1 + model_shape.language.hidden_size * (1 + model_shape.trains("language.rest")))
    )


def _norms_per_layer(model_shape: ModelShape) -> int:
    """Norms of a decoder layer: Gemma 2 has some behind attention and MLP as well."""
    return 4 if model_shape.family == "paligemma2" else 2


def attention_bytes(
    model_shape: ModelShape, num_tokens: int, num_keys: int, bytes_per_element: int
) -> int:
    """What attention keeps: query t x h x w, key and value t x k x w, output t x h x w.

    chunked: besides the log of every softmax's sum, t x h float32. sdpa: that, keys and values
    repeated for all heads (transformers does so with a mask), and the mask as numbers, t x keys.
    eager: repeated, too; of each of the t x h x keys scores the softmax in float32, its copy in
    the network's precision where that is another, and tanh(score) where scores are capped.
    """
    tower = model_shape.language
    h, k, w = tower.num_heads, tower.num_key_value_heads, tower.head_dim
    if model_shape.attn_implementation == CHUNKED_ATTENTION:
        return num_tokens * ((2 * h + 2 * k) * w * bytes_per_element + h * FLOAT32_BYTES)
    if model_shape.attn_implementation == SDPA_ATTENTION:
        return num_tokens * (
            4 * h * w * bytes_per_element + h * FLOAT32_BYTES + num_keys * bytes_per_element
        )
    per_score = (
        FLOAT32_BYTES
        + (bytes_per_element if bytes_per_element != FLOAT32_BYTES else 0)
        + (bytes_per_element if model_shape.has_attn_softcap else 0)
    )
    return num_tokens * (4 * h * w * bytes_per_element + h * num_keys * per_score)


def last_decoder_layer_bytes(
    model_shape: ModelShape, linears: list[Linear], batch: BatchShape, precision: Precision
) -> int:
    """What the last decoder layer keeps: its input, keys and values of all tokens, and the rest of
    those that predict a label only (`language.hidden_at`).
    """
    tower, t, e = (
        model_shape.language,
        batch.batch_size * batch.seq_len,
        precision.bytes_per_element,
    )
    everywhere = t * (
        FLOAT32_BYTES * (tower.hidden_size + 1) + 2 * tower.num_key_value_heads * tower.head_dim * e
    )
    everywhere += (
        t
        * tower.hidden_size
        * e
        * saves_input_for_backward(linears, "language.attention", precision)
    )
    return everywhere + decoder_layer_bytes(
        model_shape, linears, batch.num_labels, batch.seq_len, precision
    )


def encoder_layer_bytes(
    model_shape: ModelShape, linears: list[Linear], batch: BatchShape, precision: Precision
) -> int:
    """What an encoder layer keeps where something in or below it is trained.

    t = images x patches. Norms: input t x d each. Attention: query, key, value, output: t x d each,
    and t x h float32. Inputs of q/k/v and of fc1: t x d each. MLP: fc1 t x m, gelu t x m.
    """
    tower, t, e = (
        model_shape.vision,
        batch.num_images * model_shape.num_patches,
        precision.bytes_per_element,
    )
    numbers = 6 * tower.hidden_size + tower.intermediate_size
    numbers += tower.hidden_size * saves_input_for_backward(linears, "vision.attention", precision)
    numbers += (tower.hidden_size + tower.intermediate_size) * saves_input_for_backward(
        linears, "vision.mlp", precision
    )
    return t * (numbers * e + tower.num_heads * FLOAT32_BYTES) + lora_bytes(linears, t, precision)


def saves_input_for_backward(
    linears: Iterable[Linear], module_group: str, precision: Precision
) -> bool:
    """Whether linear layers of a part keep their input; bitsandbytes' int8 ones always do."""
    int8 = precision.quantization_bits == 8 and module_group.startswith("language")
    return int8 or any(
        one.module_group == module_group and (one.rank or one.trainable) for one in linears
    )


def lora_bytes(linears: list[Linear], num_tokens: int, precision: Precision) -> int:
    """What LoRA on these layers keeps besides its input (`fast_lora`).

    The narrow product t x rank, and the factors in the base's precision; `up` is scaled first, so
    that a copy is kept in float32, too. PEFT's own way (dropout, DoRA) keeps whole copies.
    """
    total = 0
    for one in linears:
        if not one.rank:
            continue
        total += (
            num_tokens * one.rank * precision.bytes_per_element
            + one.rank * one.out_features * precision.bytes_per_element
        )
        total += (
            one.rank
            * one.in_features
            * precision.bytes_per_element
            * (precision.bytes_per_element != FLOAT32_BYTES)
        )
        total += (
            num_tokens
            * FLOAT32_BYTES
            * (
                precision.extra_input_copies * one.in_features
                + precision.extra_output_copies * one.out_features
            )
        )
    return total


def linears_of_one_layer(
    linears: Iterable[Linear], tower_name: str, num_layers: int
) -> list[Linear]:
    """The linear layers of the first of `layers` equal layers of a tower."""
    own = [one for one in linears if one.module_group.startswith(f"{tower_name}.")]
    return own[: len(own) // num_layers]


def mlp_backward_bytes(tower: Tower, num_tokens: int, bytes_per_element: int) -> int:
    """What the backward pass of an MLP holds at its highest over what the layer kept.

    Gradients of down's input, gelu(gate) and up, t x m each, while down's input is freed; of
    the layer's output, of down's and of the norm's behind it: t x d each.
    """
    return num_tokens * (2 * tower.intermediate_size + 3 * tower.hidden_size) * bytes_per_element


def attention_backward_bytes(
    model_shape: ModelShape, batch: BatchShape, bytes_per_element: int, chunk_size: int
) -> int:
    """What the backward pass of attention holds over what the layer's first half kept.

    Gradients of the layer's output t x d, of output and query t x h x w each, of key and value.
    chunked: weights and their gradients of `chunk` queries, h x chunk x tokens float32 each, and
    tanh(score) where scores are capped; beside them the next chunk's scores, and its tanh(score).
    eager: two gradients of all scores.
    """
    tower, t = model_shape.language, batch.batch_size * batch.seq_len
    h, k, w = tower.num_heads, tower.num_key_value_heads, tower.head_dim
    queries = t * (tower.hidden_size + 2 * h * w) * bytes_per_element
    if model_shape.attn_implementation == CHUNKED_ATTENTION:
        one = min(chunk_size, batch.seq_len)
        after = min(chunk_size, batch.seq_len - one)
        copies = (2 + model_shape.has_attn_softcap) * one + (
            1 + model_shape.has_attn_softcap
        ) * after
        per_query = batch.batch_size * h * batch.seq_len
        in_base = 0 if bytes_per_element == FLOAT32_BYTES else bytes_per_element * one
        return (
            queries + t * 2 * k * w * FLOAT32_BYTES + per_query * (copies * FLOAT32_BYTES + in_base)
        )
    scores = (
        0
        if model_shape.attn_implementation == SDPA_ATTENTION
        else t * h * batch.seq_len * 2 * FLOAT32_BYTES
    )
    return queries + t * 2 * h * w * bytes_per_element + scores
