"""Prefix-LM attention: torch's own kernel, or an exact soft-capped one of linear memory.

Gemma 2 passes attention scores through `cap * tanh(score / cap)`, which torch's kernel cannot do;
transformers then falls back to a form that holds every score of every layer. `chunked_attention`
holds the scores of a few dozen queries at a time, in both passes, and gives the same numbers.

Both refuse to run without a mask: for PaliGemma a missing mask means a batch without
`token_type_ids`, and the suffix would see its own future.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

# transformers reads meaning into names: one that holds "sdpa", "flash_attention" or
# "flex_attention" is refused for Gemma 2 or taken for another kernel.
SDPA_ATTENTION = "prefix_lm"
CHUNKED_ATTENTION = "prefix_lm_chunked"

QUERIES_PER_CHUNK = {"cpu": 64, "cuda": 256}
"""At 4,200 tokens 64 are as fast on a CPU as any other number; a GPU wants fewer, larger calls."""


def register() -> None:
    """Make both kinds known to transformers under their names; may be called again.

    Without the mask function of the same name transformers would pass no mask, silently.
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
    """Attend with torch's scaled_dot_product_attention; shapes as in `chunked_attention`."""
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

    query: (batch, heads, queries, width); key and value: (batch, key heads, keys, width).
    attention_mask: (batch or 1, 1, queries, keys), bool (True is seen) or added to the scores.
    Returns (batch, queries, heads, width) and no weights.
    """
    _require_mask(query, attention_mask)
    if dropout:
        raise ValueError("attention dropout is not supported here; use model.attention=eager")
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
    """Attend from the newest token of each answer to its prompt and to what it has written.

    query: (answers, heads, 1, width). prompt: keys and values (prompts, key heads, tokens, width)
    that the same number of answers each share, those of one prompt in a row; own: (answers, key
    heads, tokens, width) of each answer. seen: (prompts or 1, 1, 1, tokens) bool of both.
    Returns (answers, heads * width).
    """
    answers, key_heads, tokens = generated_kv[0].shape[:3]
    prompts, _, length, width = prefix_kv[0].shape
    each = answers // prompts
    rows = query.view(answers, key_heads, -1, width)
    heads = rows.shape[2]

    def by_prompt(of_answers: Tensor) -> Tensor:
        split = of_answers.view(prompts, each, key_heads, heads, -1).transpose(1, 2)
        return split.reshape(prompts, key_heads, each * heads, -1)

    def by_answer(of_prompts: Tensor) -> Tensor:
        split = of_prompts.view(prompts, key_heads, each, heads, -1).transpose(1, 2)
        return split.reshape(answers, key_heads, heads, -1)

    before, _ = _masked_scores(by_prompt(rows), prefix_kv[0], masks[0], scale, softcap)
    since, _ = _masked_scores(rows, generated_kv[0], masks[1], scale, softcap)
    weights = torch.cat([by_answer(before), since], dim=-1).softmax(-1).to(query.dtype)
    before, since = torch.split(weights, [length, tokens], dim=-1)
    attended = by_answer(torch.matmul(by_prompt(before), prefix_kv[1])) + torch.matmul(
        since, generated_kv[1]
    )
    return attended.reshape(answers, -1)


def _require_mask(query: Tensor, mask: Tensor | None) -> None:
    if mask is None and query.shape[2] > 1:
        raise ValueError(
            "attention over several tokens came without a mask, so suffix tokens would see their "
            "own future; pass token_type_ids (0 on image and prefix, 1 on the suffix)"
        )


class _ChunkedAttention(torch.autograd.Function):
    """Keeps the output and one number per query; recomputes the scores in the backward pass.

    Query heads that share a key head are laid out as further queries of it, so keys and values are
    never repeated: rows are (batch, key heads, queries of a chunk x heads per key head, width).
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
        # Laid out as the caller wants it, so that no second copy is made.
        output = query.new_empty([query.shape[axis] for axis in (0, 2, 1, 3)]).transpose(1, 2)
        log_sums = query.new_empty(query.shape[:-1], dtype=torch.float32).unsqueeze(-1)
        for chunk in _chunks(query):
            scores, _ = _masked_scores(
                _gather_rows(query, chunk, key), key, _mask_chunk(mask, chunk), scale, softcap
            )
            log_sum = torch.logsumexp(scores, -1, keepdim=True)
            log_sum = log_sum.where(log_sum.isfinite(), 0)  # a query that sees nothing gets zeros
            weights = scores.sub_(log_sum).exp_()
            _scatter_rows(output, chunk, torch.matmul(weights.to(value.dtype), value))
            _scatter_rows(log_sums, chunk, log_sum)
        ctx.save_for_backward(query, key, value, output, log_sums, mask)
        ctx.scale, ctx.cap = scale, softcap
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, log_sums, mask = ctx.saved_tensors
        from_above = grad_outputs[0]
        d_query = torch.empty_like(query)
        d_key = torch.zeros_like(key, dtype=torch.float32)
        d_value = torch.zeros_like(value, dtype=torch.float32)
        for chunk in _chunks(query):
            rows, d_rows = _gather_rows(query, chunk, key), _gather_rows(from_above, chunk, key)
            scores, bent = _masked_scores(rows, key, _mask_chunk(mask, chunk), ctx.scale, ctx.cap)
            weights = scores.sub_(_gather_rows(log_sums, chunk, key)).exp_()
            d_value += torch.matmul(weights.to(d_rows.dtype).transpose(-1, -2), d_rows)
            # Softmax: d_score = weight * (d_weight - sum of weight * d_weight over the keys), and
            # that sum is the inner product of the output with its gradient.
            inner = (d_rows.float() * _gather_rows(output, chunk, key).float()).sum(
                -1, keepdim=True
            )
            d_scores = torch.matmul(d_rows, value.transpose(-1, -2)).float()
            d_scores.sub_(inner).mul_(weights)
            if bent is not None:  # d tanh(x) / dx = 1 - tanh(x) ** 2
                d_scores.mul_(bent.square_().neg_().add_(1))
            d_logits = d_scores.mul_(ctx.scale).to(key.dtype)
            _scatter_rows(d_query, chunk, torch.matmul(d_logits, key))
            d_key += torch.matmul(d_logits.transpose(-1, -2), rows)
        return d_query, d_key.to(key.dtype), d_value.to(value.dtype), None, None, None


def _chunks(query: Tensor) -> list[slice]:
    size = QUERIES_PER_CHUNK[query.device.type]
    return [slice(start, start + size) for start in range(0, query.shape[2], size)]


def _gather_rows(tensor: Tensor, chunk: slice, key: Tensor) -> Tensor:
    """Lay out a chunk of (batch, heads, queries, width) as rows of the key heads."""
    batch, key_heads = key.shape[:2]
    return tensor[:, :, chunk].reshape(batch, key_heads, -1, tensor.shape[-1])


def _scatter_rows(target: Tensor, chunk: slice, rows: Tensor) -> None:
    """Invert `_rows`, in place."""
    part = target[:, :, chunk]
    part.copy_(rows.reshape(part.shape))


def _mask_chunk(mask: Tensor | None, chunk: slice) -> Tensor | None:
    return None if mask is None else mask[:, :, chunk]


def _masked_scores(
    rows: Tensor, key: Tensor, mask: Tensor | None, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Return masked scores in float32, and where they are capped also tanh(score / cap)."""
    scores = torch.matmul(rows, key.transpose(-1, -2)).float()
    bent = None
    if softcap is None:
        scores.mul_(scale)
    else:
        bent = scores.mul_(scale / softcap).tanh_()
        scores = bent * softcap
    if mask is not None:
        by_head = scores.view(*scores.shape[:2], -1, *mask.shape[-2:])
        if mask.dtype == torch.bool:
            by_head.masked_fill_(~mask.unsqueeze(2), float("-inf"))
        else:
            by_head.add_(mask.unsqueeze(2))
    return scores, bent
