"""Exact attention with an optional soft-cap, in memory linear in the number of tokens.

The scores of one chunk of queries exist at a time, in the forward and the backward pass. The
forward pass saves the output and one number per query, from which the backward pass recomputes the
scores.

Query heads that share a key head are treated as further queries of it, so that keys and values are
not repeated: rows are (batch, key heads, heads per key head x queries of a chunk, width).
"""

from typing import Any

import torch
from torch import Tensor

CPU_QUERIES_PER_CHUNK = 64
"""On a CPU, chunks of 64 queries are as fast as any others at 4,200 tokens."""
GPU_QUERIES_PER_CHUNK = 256
"""Least number of queries of a chunk on a GPU, where few large calls are faster."""
GPU_CHUNK_BYTES = 32 << 20
"""A chunk has more queries if their float32 scores fit into this; they then also fit into the L2
cache of an H100 (50 MB) or a 4090 (72 MB)."""


def queries_per_chunk(device_type: str, score_bytes_per_query: int) -> int:
    """Return the number of queries of a chunk.

    score_bytes_per_query: Bytes of the float32 scores of one query of all rows and heads.
    """
    if device_type == "cpu":
        return CPU_QUERIES_PER_CHUNK
    return max(GPU_QUERIES_PER_CHUNK, GPU_CHUNK_BYTES // score_bytes_per_query)


def attend_in_chunks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    softcap: float | None,
) -> Tensor:
    """Attend from all queries: (batch, queries, heads, width).

    Args:
        query: (batch, heads, queries, width).
        key: (batch, key heads, keys, width), contiguous, in the dtype of the query.
        value: (batch, key heads, keys, width), contiguous, in the dtype of the query.
        mask: (batch or 1, 1, queries, keys), bool (True is attended to) or additive, or None.
        scale: Factor of the scores.
        softcap: Soft-cap of the scores, or None.
    """
    if torch.compiler.is_compiling():
        # As an operator the loop over chunks is opaque to the compiler, which would otherwise
        # compile it for each number of tokens. Calls of an operator take longer than those of an
        # autograd function.
        output: Tensor = _forward_operator(query, key, value, mask, scale, softcap)[0]
        return output
    output = _ChunkedAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, mask, scale, softcap
    )
    return output


class _ChunkedAttention(torch.autograd.Function):
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
        output, log_sums = _forward(query, key, value, mask, scale, softcap)
        ctx.save_for_backward(query, key, value, mask, output, log_sums)
        ctx.scale, ctx.softcap = scale, softcap
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        inputs: tuple[Any, ...] = (*ctx.saved_tensors, ctx.scale, ctx.softcap)
        gradients = _backward(grad_outputs[0], *inputs)
        return *gradients, None, None, None


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Return the output, and the logarithm of each softmax denominator."""
    output, log_sums = _empty_outputs(query)
    output_by_head = output.transpose(1, 2)
    for chunk in _chunks(query, key):
        scores, _ = masked_scores(
            _gather_rows(query, chunk, key), key, _mask_chunk(mask, chunk), scale, softcap
        )
        log_sum = torch.logsumexp(scores, -1, keepdim=True)
        log_sum = log_sum.where(log_sum.isfinite(), 0)  # zeros for a query without keys
        weights = scores.sub_(log_sum).exp_()
        _scatter_rows(output_by_head, chunk, torch.matmul(weights.to(value.dtype), value))
        _scatter_rows(log_sums, chunk, log_sum)
    return output, log_sums


def _backward(
    d_output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    output: Tensor,
    log_sums: Tensor,
    scale: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value."""
    d_query = torch.empty_like(query)
    d_key = torch.zeros_like(key, dtype=torch.float32)
    d_value = torch.zeros_like(value, dtype=torch.float32)
    d_output, output = d_output.transpose(1, 2), output.transpose(1, 2)
    for chunk in _chunks(query, key):
        rows, d_rows = _gather_rows(query, chunk, key), _gather_rows(d_output, chunk, key)
        scores, capped = masked_scores(rows, key, _mask_chunk(mask, chunk), scale, softcap)
        weights = scores.sub_(_gather_rows(log_sums, chunk, key)).exp_()
        d_value += torch.matmul(weights.to(d_rows.dtype).transpose(-1, -2), d_rows)
        # Softmax: d_score = weight * (d_weight - sum of weight * d_weight over the keys), and
        # that sum is the inner product of the output with its gradient.
        inner = (d_rows.float() * _gather_rows(output, chunk, key).float()).sum(-1, keepdim=True)
        d_scores = torch.matmul(d_rows, value.transpose(-1, -2)).float()
        d_scores.sub_(inner).mul_(weights)
        if capped is not None:  # d tanh(x) / dx = 1 - tanh(x) ** 2
            d_scores.mul_(capped.square_().neg_().add_(1))
        d_logits = d_scores.mul_(scale).to(key.dtype)
        _scatter_rows(d_query, chunk, torch.matmul(d_logits, key))
        d_key += torch.matmul(d_logits.transpose(-1, -2), rows)
    return d_query, d_key.to(key.dtype), d_value.to(value.dtype)


def _empty_outputs(query: Tensor) -> tuple[Tensor, Tensor]:
    batch, heads, queries, width = query.shape
    output = query.new_empty(batch, queries, heads, width)
    return output, query.new_empty(batch, heads, queries, 1, dtype=torch.float32)


_forward_operator = torch.library.custom_op(
    "palitune::chunked_attention", _forward, mutates_args=()
)
_backward_operator = torch.library.custom_op(
    "palitune::chunked_attention_backward", _backward, mutates_args=()
)


@_forward_operator.register_fake
def _(query: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _empty_outputs(query)


@_backward_operator.register_fake
def _(
    d_output: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.softcap = inputs
    ctx.save_for_backward(*tensors, *output)


def _operator_backward(ctx: Any, d_output: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _backward_operator(d_output, *ctx.saved_tensors, ctx.scale, ctx.softcap)
    return *gradients, None, None, None


_forward_operator.register_autograd(_operator_backward, setup_context=_save_for_backward)


def _chunks(query: Tensor, key: Tensor) -> list[slice]:
    batch, heads, queries, _ = query.shape
    score_bytes = batch * heads * key.shape[2] * torch.float32.itemsize
    size = queries_per_chunk(query.device.type, score_bytes)
    return [slice(start, start + size) for start in range(0, queries, size)]


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


def masked_scores(
    rows: Tensor, key: Tensor, mask: Tensor | None, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Return masked scores in float32 and, with a soft-cap, tanh(score / cap).

    Args:
        rows: (batch, key heads, heads per key head x queries, width).
        key: (batch, key heads, keys, width).
        mask: (batch or 1, 1, queries, keys), bool (True is attended to) or additive, or None.
        scale: Factor of the scores.
        softcap: Soft-cap of the scores, or None.
    """
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
