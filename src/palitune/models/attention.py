"""Prefix-LM attention in the form of transformers: SDPA, chunked or flex_attention.

Gemma 2 applies `cap * tanh(score / cap)` to attention scores, which torch's SDPA does not support.
transformers then falls back to eager attention, which stores every score of every layer.
`chunked_attention` stores the scores of one chunk of queries at a time, `flex_attention` none; both
give the same values.

All refuse to run without a mask: for PaliGemma a missing mask means a batch without
`token_type_ids`, in which suffix tokens would see later ones.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from palitune.models import flex_attention as flex
from palitune.models.chunked_attention import attend_in_chunks, masked_scores

# transformers matches substrings of these names: one that contains "sdpa", "flash_attention" or
# "flex_attention" is refused for Gemma 2 or treated as another kernel.
SDPA_ATTENTION = "prefix_lm"
CHUNKED_ATTENTION = "prefix_lm_chunked"
FLEX_ATTENTION = "prefix_lm_flex"

IMPLEMENTATION_NAMES = {
    "flex": FLEX_ATTENTION,
    "chunked": CHUNKED_ATTENTION,
    "sdpa": SDPA_ATTENTION,
    "eager": "eager",
}
"""Names in transformers by value of `model.attention`."""


def format_name(name: str) -> str:
    """Return the value of `model.attention` for a name in transformers."""
    return next(value for value, known in IMPLEMENTATION_NAMES.items() if known == name)


def register() -> None:
    """Register the implementations with transformers; may be called repeatedly.

    Without a mask function of the same name, transformers would silently pass no mask.
    """
    for name, implementation in (
        (SDPA_ATTENTION, sdpa_attention),
        (CHUNKED_ATTENTION, chunked_attention),
        (FLEX_ATTENTION, flex_attention),
    ):
        AttentionInterface.register(name, implementation)
        AttentionMaskInterface.register(name, sdpa_mask)


def sdpa_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend with torch's scaled_dot_product_attention; arguments as in `chunked_attention`."""
    _require_mask(query, attention_mask)
    attended: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **kwargs
    )
    return attended


def chunked_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend exactly, with or without a soft-cap, in memory linear in the number of tokens.

    Args:
        module: Attention layer; not used.
        query: (batch, heads, queries, width).
        key: (batch, key heads, keys, width).
        value: (batch, key heads, keys, width).
        attention_mask: (batch or 1, 1, queries, keys); bool (True is attended to) or additive.
        dropout: Must be 0.
        scaling: Factor of the scores; None: width ** -0.5.
        softcap: Soft-cap of the scores, or None.

    Returns:
        The output, (batch, queries, heads, width), and None for the weights.
    """
    _require_mask(query, attention_mask)
    _refuse_dropout(dropout)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Under autocast the rotary embedding promotes query and key, but not value, to float32.
    query, key = query.to(value.dtype), key.to(value.dtype)
    with torch.autocast(query.device.type, enabled=False):
        attended = attend_in_chunks(
            query, key.contiguous(), value.contiguous(), attention_mask, scale, softcap
        )
    return attended, None


def flex_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend with torch's flex_attention; arguments as in `chunked_attention`.

    `attention_mask` is a block mask from `flex.prefix_lm_block_mask`. With a tensor (prompts, and
    the few queries of the last layer) this is `chunked_attention`.
    """
    if attention_mask is None or isinstance(attention_mask, Tensor):
        return chunked_attention(
            module, query, key, value, attention_mask, dropout, scaling, softcap
        )
    _refuse_dropout(dropout)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key = query.to(value.dtype), key.to(value.dtype)  # as in `chunked_attention`
    with torch.autocast(query.device.type, enabled=False):
        attended = flex.attend_in_kernel(query, key, value, attention_mask, scale, softcap)
    return attended, None


def shared_prefix_attention(
    query: Tensor,
    prefix_kv: tuple[Tensor, Tensor],
    generated_kv: tuple[Tensor, Tensor],
    masks: tuple[Tensor, Tensor],
    scale: float,
    softcap: float | None,
) -> Tensor:
    """Attend from the newest token of each sequence to its prefix and its generated tokens.

    Several sequences (beams) may share a prefix, whose keys and values are then not repeated.

    Args:
        query: (sequences, heads, 1, width); sequences of one prefix are adjacent, and every prefix
            has the same number of them.
        prefix_kv: Keys and values, (prefixes, key heads, tokens, width) each.
        generated_kv: Keys and values, (sequences, key heads, tokens, width) each.
        masks: For prefix and generated tokens, (prefixes, sequences or 1; 1, 1, tokens) bool each.
        scale: Factor of the scores.
        softcap: Soft-cap of the scores, or None.

    Returns:
        (sequences, heads * width).
    """
    sequences, key_heads, num_generated = generated_kv[0].shape[:3]
    prefixes, _, prefix_length, _ = prefix_kv[0].shape
    beams = sequences // prefixes
    rows = query.view(sequences, key_heads, -1, query.shape[-1])
    heads = rows.shape[2]  # per key head

    def by_prefix(values: Tensor) -> Tensor:
        split = values.view(prefixes, beams, key_heads, heads, -1).transpose(1, 2)
        return split.reshape(prefixes, key_heads, beams * heads, -1)

    def by_sequence(values: Tensor) -> Tensor:
        split = values.view(prefixes, key_heads, beams, heads, -1).transpose(1, 2)
        return split.reshape(sequences, key_heads, heads, -1)

    prefix_scores, _ = masked_scores(by_prefix(rows), prefix_kv[0], masks[0], scale, softcap)
    own_scores, _ = masked_scores(rows, generated_kv[0], masks[1], scale, softcap)
    scores = torch.cat([by_sequence(prefix_scores), own_scores], dim=-1)
    weights = scores.softmax(-1).to(query.dtype)
    prefix_weights, own_weights = torch.split(weights, [prefix_length, num_generated], dim=-1)
    from_prefix = by_sequence(torch.matmul(by_prefix(prefix_weights), prefix_kv[1]))
    attended = from_prefix + torch.matmul(own_weights, generated_kv[1])
    return attended.reshape(sequences, -1)


def _refuse_dropout(dropout: float) -> None:
    if dropout:
        raise ValueError("Attention dropout is not supported. Set model.attention=eager.")


def _require_mask(query: Tensor, mask: Tensor | None) -> None:
    if mask is None and query.shape[2] > 1:
        raise ValueError(
            "Attention over several tokens was called without a mask, so suffix tokens would see "
            "later ones. Pass token_type_ids (0 on image and prefix, 1 on the suffix)."
        )
