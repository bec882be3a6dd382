"""Prefix-LM attention: torch's SDPA kernel, or an exact soft-capped one with linear memory.

Gemma 2 applies `cap * tanh(score / cap)` to attention scores, which torch's kernel does not
support. transformers then falls back to eager attention, which stores every score of every layer.
`chunked_attention` stores the scores of one chunk of queries at a time, in the forward and the
backward pass, and gives the same values.

Both refuse to run without a mask: for PaliGemma a missing mask means a batch without
`token_type_ids`, in which suffix tokens would see later ones.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

# transformers matches substrings of these names: one that contains "sdpa", "flash_attention" or
# "flex_attention" is refused for Gemma 2 or treated as another kernel.
SDPA_ATTENTION = "prefix_lm"
CHUNKED_ATTENTION = "prefix_lm_chunked"

QUERIES_PER_CHUNK = {"cpu": 64, "cuda": 256}
"""On a CPU, chunks of 64 are as fast as any others at 4,200 tokens; on a GPU few large calls are
faster."""


def register() -> None:
    """Register both implementations with transformers; may be called repeatedly.

    Without a mask function of the same name, transformers would silently pass no mask.
    """
    AttentionInterface.register(SDPA_ATTENTION, sdpa_attention)
    AttentionInterface.register(CHUNKED_ATTENTION, chunked_attention)
    AttentionMaskInterface.register(SDPA_ATTENTION, sdpa_mask)
    AttentionMaskInterface.register(CHUNKED_ATTENTION, sdpa_mask)


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
    if dropout:
        raise ValueError("Attention dropout is not supported. Set model.attention=eager.")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # Under autocast the rotary embedding promotes query and key, but not value, to float32.
    query, key = query.to(value.dtype), key.to(value.dtype)
    with torch.autocast(query.device.type, enabled=False):
        attended: Tensor = _ChunkedAttention.apply(  # type: ignore[no-untyped-call]
            query, key.contiguous(), value.contiguous(), attention_mask, scale, softcap
        )
    return attended.transpose(1, 2), None


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
        masks: For prefix and generated tokens, (prefixes or 1, 1, 1, tokens) bool each.
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

    prefix_scores, _ = _masked_scores(by_prefix(rows), prefix_kv[0], masks[0], scale, softcap)
    own_scores, _ = _masked_scores(rows, generated_kv[0], masks[1], scale, softcap)
    scores = torch.cat([by_sequence(prefix_scores), own_scores], dim=-1)
    weights = scores.softmax(-1).to(query.dtype)
    prefix_weights, own_weights = torch.split(weights, [prefix_length, num_generated], dim=-1)
    from_prefix = by_sequence(torch.matmul(by_prefix(prefix_weights), prefix_kv[1]))
    attended = from_prefix + torch.matmul(own_weights, generated_kv[1])
    return attended.reshape(sequences, -1)


def _require_mask(query: Tensor, mask: Tensor | None) -> None:
    if mask is None and query.shape[2] > 1:
        raise ValueError(
            "Attention over several tokens was called without a mask, so suffix tokens would see "
            "later ones. Pass token_type_ids (0 on image and prefix, 1 on the suffix)."
        )


class _ChunkedAttention(torch.autograd.Function):
    """Saves the output and one number per query; recomputes the scores in the backward pass.

    Query heads that share a key head are treated as further queries of it, so that keys and values
    are not repeated: rows are (batch, key heads, heads per key head x queries of a chunk, width).
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        # In the memory layout of the caller, so that its transpose makes no copy.
        output = query.new_empty([query.shape[axis] for axis in (0, 2, 1, 3)]).transpose(1, 2)
        log_sums = query.new_empty(query.shape[:-1], dtype=torch.float32).unsqueeze(-1)
        for chunk in _chunks(query):
            scores, _ = _masked_scores(
                _gather_rows(query, chunk, key), key, _mask_chunk(mask, chunk), scale, softcap
            )
            log_sum = torch.logsumexp(scores, -1, keepdim=True)
            log_sum = log_sum.where(log_sum.isfinite(), 0)  # zeros for a query without keys
            weights = scores.sub_(log_sum).exp_()
            _scatter_rows(output, chunk, torch.matmul(weights.to(value.dtype), value))
            _scatter_rows(log_sums, chunk, log_sum)
        ctx.save_for_backward(query, key, value, output, log_sums, mask)
        ctx.scale, ctx.cap = scale, softcap
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, log_sums, mask = ctx.saved_tensors
        d_output = grad_outputs[0]
        d_query = torch.empty_like(query)
        d_key = torch.zeros_like(key, dtype=torch.float32)
        d_value = torch.zeros_like(value, dtype=torch.float32)
        for chunk in _chunks(query):
            rows, d_rows = _gather_rows(query, chunk, key), _gather_rows(d_output, chunk, key)
            scores, capped = _masked_scores(rows, key, _mask_chunk(mask, chunk), ctx.scale, ctx.cap)
            weights = scores.sub_(_gather_rows(log_sums, chunk, key)).exp_()
            d_value += torch.matmul(weights.to(d_rows.dtype).transpose(-1, -2), d_rows)
            # Softmax: d_score = weight * (d_weight - sum of weight * d_weight over the keys), and
            # that sum is the inner product of the output with its gradient.
            inner = (d_rows.float() * _gather_rows(output, chunk, key).float()).sum(
                -1, keepdim=True
            )
            d_scores = torch.matmul(d_rows, value.transpose(-1, -2)).float()
            d_scores.sub_(inner).mul_(weights)
            if capped is not None:  # d tanh(x) / dx = 1 - tanh(x) ** 2
                d_scores.mul_(capped.square_().neg_().add_(1))
            d_logits = d_scores.mul_(ctx.scale).to(key.dtype)
            _scatter_rows(d_query, chunk, torch.matmul(d_logits, key))
            d_key += torch.matmul(d_logits.transpose(-1, -2), rows)
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None, None, None


def _chunks(query: Tensor) -> list[slice]:
    size = QUERIES_PER_CHUNK[query.device.type]
    return [slice(start, start + size) for start in range(0, query.shape[2], size)]


def _gather_rows(tensor: Tensor, chunk: slice, key: Tensor) -> Tensor:
    """Return a chunk of (batch, heads, queries, width) as rows of the key heads."""
    batch, key_heads = key.shape[:2]
    return tensor[:, :, chunk].reshape(batch, key_heads, -1, tensor.shape[-1])


def _scatter_rows(target: Tensor, chunk: slice, rows: Tensor) -> None:
    """Write rows from `_gather_rows` back into their chunk of `target`."""
    view = target[:, :, chunk]
    view.copy_(rows.reshape(view.shape))


def _mask_chunk(mask: Tensor | None, chunk: slice) -> Tensor | None:
    return None if mask is None else mask[:, :, chunk]


def _masked_scores(
    rows: Tensor, key: Tensor, mask: Tensor | None, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Return masked scores in float32 and, with a soft-cap, tanh(score / cap)."""
    scores = torch.matmul(rows, key.transpose(-1, -2)).float()
    capped = None
    if softcap is None:
        scores.mul_(scale)
    else:
        capped = scores.mul_(scale / softcap).tanh_()
        scores = capped * softcap
    if mask is not None:
        by_head = scores.view(*scores.shape[:2], -1, *mask.shape[-2:])
        if mask.dtype == torch.bool:
            by_head.masked_fill_(~mask.unsqueeze(2), float("-inf"))
        else:
            by_head.add_(mask.unsqueeze(2))
    return scores, capped
