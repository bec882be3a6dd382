"""Bytes that layers keep for their backward pass, tensor by tensor.

`t` tokens (rows x padded length) of `e` bytes a number; d, m, h, k, w are a tower's width, MLP
width, heads, heads of keys and values, and width of a head. What a frozen layer needs for nothing
is not kept: a linear layer keeps its input only where it, or LoRA on it, is trained.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from palitune.models.attention import CHUNKED, TORCH_KERNEL
from palitune.planning.on_paper import Linear, Paper, Tower

FLOAT = 4
"""Bytes of a float32, in which norms and softmax compute whatever the network is in."""


@dataclass(frozen=True)
class Batch:
    """What one forward pass sees."""

    rows: int
    tokens: int
    """Of the longest row, image included: the others are padded to it."""
    labels: int
    """Tokens of suffixes, over all rows."""
    images: int


@dataclass(frozen=True)
class Precision:
    """In what the base computes, and what its language model's linear layers are stored in."""

    bytes: int
    """4: float32; 2: bfloat16 or float16."""
    bits: int | None
    """Per quantized weight; None: not quantized."""
    extra_inputs: int = 0
    """Further copies, in float32, that PEFT keeps of each LoRA input: with dropout."""
    extra_outputs: int = 0
    """And of each LoRA output: with DoRA."""


def language_layer(paper: Paper, linears: list[Linear], t: int, keys: int, p: Precision) -> int:
    """What a decoder layer keeps of t tokens that attend to `keys` tokens each."""
    return attention_half(paper, linears, t, keys, p) + mlp_half(paper, linears, t, p)


def attention_half(paper: Paper, linears: list[Linear], t: int, keys: int, p: Precision) -> int:
    """Norms (see `norm`); the input of q/k/v: t x d; `attention`; LoRA."""
    width = paper.language.width
    kept = t * width * p.bytes * keeps_input(linears, "language.attention", p)
    kept += _norms(paper) // 2 * norm(paper, t) + attention(paper, t, keys, p.bytes)
    return kept + adapters([one for one in linears if "attention" in one.part], t, p)


def mlp_half(paper: Paper, linears: list[Linear], t: int, p: Precision) -> int:
    """Norms; gate, gelu(gate) and up: t x m each; the input of gate and up, t x d, and that of
    down, gate * up: t x m; LoRA.
    """
    tower = paper.language
    numbers = 3 * tower.mlp
    numbers += (tower.width + tower.mlp) * keeps_input(linears, "language.mlp", p)
    kept = t * numbers * p.bytes + _norms(paper) // 2 * norm(paper, t)
    return kept + adapters([one for one in linears if "mlp" in one.part], t, p)


def norm(paper: Paper, t: int) -> int:
    """What GemmaRMSNorm keeps: its input in float32, t x d, and one number per token; where it is
    trained the result before its weight, too.
    """
    return t * FLOAT * (1 + paper.language.width * (1 + paper.trains("language.rest")))


def _norms(paper: Paper) -> int:
    """Norms of a decoder layer: Gemma 2 has some behind attention and MLP as well."""
    return 4 if paper.family == "paligemma2" else 2


def attention(paper: Paper, t: int, keys: int, e: int) -> int:
    """What attention keeps: query t x h x w, key and value t x k x w, output t x h x w.

    chunked: besides the log of every softmax's sum, t x h float32. sdpa: that, keys and values
    repeated for all heads (transformers does so with a mask), and the mask as numbers, t x keys.
    eager: repeated, too; of each of the t x h x keys scores the softmax in float32, its copy in
    the network's precision where that is another, and tanh(score) where scores are capped.
    """
    tower = paper.language
    h, k, w = tower.heads, tower.key_heads, tower.head_width
    if paper.attention == CHUNKED:
        return t * ((2 * h + 2 * k) * w * e + h * FLOAT)
    if paper.attention == TORCH_KERNEL:
        return t * (4 * h * w * e + h * FLOAT + keys * e)
    per_score = FLOAT + (e if e != FLOAT else 0) + (e if paper.capped_scores else 0)
    return t * (4 * h * w * e + h * keys * per_score)


def last_layer(paper: Paper, linears: list[Linear], batch: Batch, p: Precision) -> int:
    """What the last decoder layer keeps: its input, keys and values of all tokens, and the rest of
    those that predict a label only (`language.hidden_at`).
    """
    tower, t, e = paper.language, batch.rows * batch.tokens, p.bytes
    everywhere = t * (FLOAT * (tower.width + 1) + 2 * tower.key_heads * tower.head_width * e)
    everywhere += t * tower.width * e * keeps_input(linears, "language.attention", p)
    return everywhere + language_layer(paper, linears, batch.labels, batch.tokens, p)


def vision_layer(paper: Paper, linears: list[Linear], batch: Batch, p: Precision) -> int:
    """What an encoder layer keeps where something in or below it is trained.

    t = images x patches. Norms: input t x d each. Attention: query, key, value, output: t x d each,
    and t x h float32. Inputs of q/k/v and of fc1: t x d each. MLP: fc1 t x m, gelu t x m.
    """
    tower, t, e = paper.vision, batch.images * paper.patches, p.bytes
    numbers = 6 * tower.width + tower.mlp
    numbers += tower.width * keeps_input(linears, "vision.attention", p)
    numbers += (tower.width + tower.mlp) * keeps_input(linears, "vision.mlp", p)
    return t * (numbers * e + tower.heads * FLOAT) + adapters(linears, t, p)


def keeps_input(linears: Iterable[Linear], part: str, p: Precision) -> bool:
    """Whether linear layers of a part keep their input; bitsandbytes' int8 ones always do."""
    int8 = p.bits == 8 and part.startswith("language")
    return int8 or any(one.part == part and (one.rank or one.trained) for one in linears)


def adapters(linears: list[Linear], t: int, p: Precision) -> int:
    """What LoRA on these layers keeps besides its input (`lean_lora`).

    Where the product of the factors is folded into the weight: that sum, outputs x inputs. Else
    the narrow product t x rank, and the factors in the base's precision; `up` is scaled first, so
    that a copy is kept in float32, too. PEFT's own way (dropout, DoRA) keeps whole copies.
    """
    total = 0
    for one in linears:
        if not one.rank:
            continue
        if folds(one, p):
            total += one.inputs * one.outputs * p.bytes
            continue
        total += t * one.rank * p.bytes + one.rank * one.outputs * p.bytes
        total += one.rank * one.inputs * p.bytes * (p.bytes != FLOAT)
        total += t * FLOAT * (p.extra_inputs * one.inputs + p.extra_outputs * one.outputs)
    return total


def folds(one: Linear, p: Precision) -> bool:
    """As `lean_lora._folds`: weights that compute in float32, but for int8, where it costs less."""
    plain = p.bytes == FLOAT and not (p.bits == 8 and one.part.startswith("language."))
    plain = plain and not (p.extra_inputs or p.extra_outputs)
    return plain and 6 * one.rank * (one.inputs + one.outputs) >= one.inputs * one.outputs


def of_one_layer(linears: Iterable[Linear], tower: str, layers: int) -> list[Linear]:
    """The linear layers of the first of `layers` equal layers of a tower."""
    own = [one for one in linears if one.part.startswith(f"{tower}.")]
    return own[: len(own) // layers]


def mlp_backward(tower: Tower, t: int, e: int) -> int:
    """What the backward pass of an MLP holds at its highest over what the layer kept.

    Gradients of down's input, gelu(gate) and up, t x m each, while down's input is freed; of
    the layer's output, of down's and of the norm's behind it: t x d each.
    """
    return t * (2 * tower.mlp + 3 * tower.width) * e


def attention_backward(paper: Paper, batch: Batch, e: int, chunk: int) -> int:
    """What the backward pass of attention holds over what the layer's first half kept.

    Gradients of the layer's output t x d, of output and query t x h x w each, of key and value.
    chunked: weights and their gradients of `chunk` queries, h x chunk x tokens float32 each, and
    tanh(score) where scores are capped; beside them the next chunk's scores, and its tanh(score).
    eager: two gradients of all scores.
    """
    tower, t = paper.language, batch.rows * batch.tokens
    h, k, w = tower.heads, tower.key_heads, tower.head_width
    queries = t * (tower.width + 2 * h * w) * e
    if paper.attention == CHUNKED:
        one = min(chunk, batch.tokens)
        after = min(chunk, batch.tokens - one)
        copies = (2 + paper.capped_scores) * one + (1 + paper.capped_scores) * after
        per_query = batch.rows * h * batch.tokens
        in_base = 0 if e == FLOAT else e * one
        return queries + t * 2 * k * w * FLOAT + per_query * (copies * FLOAT + in_base)
    scores = 0 if paper.attention == TORCH_KERNEL else t * h * batch.tokens * 2 * FLOAT
    return queries + t * 2 * h * w * e + scores
