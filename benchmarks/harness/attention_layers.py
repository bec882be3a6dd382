"""One attention layer with the head sizes of the 3B models, by every implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palitune.models import attention, flex_attention

SUFFIX = 16
"""Causal tokens at the end of a row, after image and prompt."""
HEAD_WIDTH = 256


@dataclass(frozen=True)
class AttentionInputs:
    """Inputs of a layer: query (1, heads, tokens, width), key and value (1, key heads, ...)."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor
    """(1, 1, tokens, tokens) bool: the prefix in both directions, the suffix causally."""
    softcap: float | None


def attention_implementations(softcap: float | None) -> list[str]:
    """Return the values of `model.attention` that compute this layer."""
    return ["eager", "chunked", "flex", *([] if softcap else ["sdpa"])]


def attention_inputs(
    tokens: int, softcap: float | None, dtype: torch.dtype, device: str
) -> AttentionInputs:
    """Return random inputs: 8 heads on 4 key heads with soft-cap (PaliGemma 2), else on 1."""
    torch.manual_seed(0)
    heads, key_heads = 8, 4 if softcap else 1
    shapes = [(1, count, tokens, HEAD_WIDTH) for count in (heads, key_heads, key_heads)]
    query, key, value = (torch.randn(shape, device=device).to(dtype) for shape in shapes)
    index = torch.arange(tokens, device=device)
    mask = (index < tokens - SUFFIX) | (index <= index[:, None])
    leaves = [tensor.requires_grad_() for tensor in (query, key, value)]
    return AttentionInputs(*leaves, mask[None, None], softcap)


def run_attention(implementation: str, inputs: AttentionInputs) -> Tensor:
    """Run forward and backward pass; return the output, (1, tokens, heads, width)."""
    for tensor in (inputs.query, inputs.key, inputs.value):
        tensor.grad = None
    options = {"scaling": HEAD_WIDTH**-0.5, "softcap": inputs.softcap}
    heads = inputs.query, inputs.key, inputs.value
    layer = torch.nn.Module()
    layer.num_key_value_groups = inputs.query.shape[1] // inputs.key.shape[1]
    layer.is_causal = False
    layer.train()
    output, _ = _kernel(implementation)(layer, *heads, _mask(implementation, inputs), **options)
    output.square().mean().backward()
    return output.detach()


def reference_output(inputs: AttentionInputs) -> Tensor:
    """Return the output of eager attention in float32."""
    leaves = [
        tensor.detach().float().requires_grad_()
        for tensor in (inputs.query, inputs.key, inputs.value)
    ]
    return run_attention("eager", AttentionInputs(*leaves, inputs.mask, inputs.softcap))


def _kernel(implementation: str) -> Any:
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    return {
        "eager": eager_attention_forward,
        "chunked": attention.chunked_attention,
        "flex": attention.flex_attention,
        "sdpa": attention.sdpa_attention,
    }[implementation]


def _mask(implementation: str, inputs: AttentionInputs) -> Any:
    """Return the mask in the form of an implementation."""
    if implementation == "flex":
        tokens = inputs.mask.shape[-1]
        real = torch.ones(1, tokens, dtype=torch.long, device=inputs.mask.device)
        types = torch.zeros_like(real)
        types[:, -SUFFIX:] = 1
        return flex_attention.prefix_lm_block_mask(types, real)
    if implementation == "eager":
        lowest = torch.finfo(inputs.query.dtype).min
        return torch.zeros_like(inputs.mask, dtype=inputs.query.dtype).masked_fill(
            ~inputs.mask, lowest
        )
    return inputs.mask
