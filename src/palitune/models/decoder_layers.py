"""The language model with its own mask, and a last layer only where it is asked for.

The stock forward pass computes every layer at every position. What the last layer makes of a
position nobody asks about is thrown away, so there its queries, its output and its MLP run at the
positions asked for alone; keys and values still come from all.
"""

import sys
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


class KVCacheProtocol(Protocol):
    """What is told the keys and values of every layer, as a cache of transformers is."""

    def update(self, key: Tensor, value: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Take in (batch, key heads, tokens, width) each; return what is attended to."""


def compute_position_ids(token_types: Tensor, attention_mask: Tensor) -> Tensor:
    """Number the tokens of padded rows from 1, every suffix going on where the prefix ends.

    token_types: (batch, tokens), 0 on the prefix and padding, k on the k-th suffix.
    """
    index = attention_mask.cumsum(dim=1) - 1
    starts = torch.zeros_like(token_types, dtype=torch.bool)
    starts[:, 1:] = token_types[:, 1:] != token_types[:, :-1]
    start = torch.where(starts, index, 0).cummax(dim=1).values
    after_prefix = index - start + prefix_lengths(token_types, attention_mask)[:, None]
    return torch.where(token_types > 0, after_prefix, index) + 1


def prefix_lengths(token_types: Tensor, attention_mask: Tensor) -> Tensor:
    """Count image and prompt tokens of each row: (batch,)."""
    return ((token_types == 0) & attention_mask.bool()).sum(dim=1)


def prefix_lm_mask(token_types: Tensor, attention_mask: Tensor, query_start: int = 0) -> Tensor:
    """Tell which token sees which: (batch, 1, queries, keys) bool, the queries from `since` on.

    The prefix sees itself in both directions; a suffix sees the prefix and its own past, and
    nothing of another suffix in the same row.
    """
    index = torch.arange(token_types.shape[1], device=token_types.device)
    same = token_types[:, query_start:, None] == token_types[:, None, :]
    own_past = same & (index[query_start:, None] >= index)
    seen = (own_past | (token_types == 0)[:, None, :]) & attention_mask.bool()[:, None, :]
    return seen[:, None]


def sliding_window_mask(
    mask: Tensor, token_types: Tensor, positions: Tensor, window: int, query_start: int = 0
) -> Tensor:
    """Hide what lies `window` positions back or more, except from prefix to prefix."""
    prefix = token_types == 0
    near = positions[:, query_start:, None] - positions[:, None, :] < window
    return mask & (near | (prefix[:, query_start:, None] & prefix[:, None, :]))[:, None]


def masks_by_layer_type(
    language_model: Any,
    token_types: Tensor,
    attention_mask: Tensor,
    positions: Tensor,
    query_start: int = 0,
) -> dict[str, Tensor]:
    """Tell by kind of layer which token sees which, as `visible` does."""
    masks = {"full_attention": (seen := prefix_lm_mask(token_types, attention_mask, query_start))}
    if window := getattr(language_model.config, "sliding_window", None):
        near = sliding_window_mask(seen, token_types, positions, window, query_start)
        masks["sliding_attention"] = near
    return masks


def hidden_states_at(
    language_model: Any,
    embeddings: Tensor,
    token_types: Tensor,
    attention_mask: Tensor,
    keep: Tensor,
) -> Tensor:
    """Return the final hidden states where `keep`, (batch, tokens) bool, is set: (kept, width).

    embeddings: (batch, tokens, width), images put in; rows are padded on the right.
    """
    positions = compute_position_ids(token_types, attention_mask)
    masks = masks_by_layer_type(language_model, token_types, attention_mask, positions)
    return run_decoder(language_model, embeddings, masks, positions, keep)


def run_decoder(
    language_model: Any,
    embeddings: Tensor,
    masks: Mapping[str, Tensor],
    positions: Tensor,
    keep: Tensor,
    kv_cache: KVCacheProtocol | None = None,
) -> Tensor:
    """Return the final hidden states where `keep` is set, as `hidden_at` does.

    masks: by kind of layer, which token sees which, (batch, 1, queries, keys) bool. `memory` gets
    the keys and values of every layer, of all positions.
    """
    if language_model.config._attn_implementation == "eager":
        masks = {kind: to_additive_mask(mask, embeddings.dtype) for kind, mask in masks.items()}
    rotary = language_model.rotary_emb(embeddings, position_ids=positions)
    kinds = layer_types(language_model)
    hidden = embeddings
    for layer, kind in zip(language_model.layers[:-1], kinds[:-1], strict=True):
        hidden = layer(
            hidden,
            attention_mask=masks[kind],
            position_ids=positions,
            position_embeddings=rotary,
            past_key_values=kv_cache,
        )
    hidden = _run_last_layer(
        language_model.layers[-1], hidden, masks[kinds[-1]], rotary, keep, kv_cache
    )
    final: Tensor = language_model.norm(hidden)
    return final


def layer_types(language_model: Any) -> list[str]:
    """Name the kind of each layer: "full_attention" or "sliding_attention"."""
    kinds: list[str] | None = getattr(language_model.config, "layer_types", None)
    return kinds or ["full_attention"] * len(language_model.layers)


def to_additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Write a mask as eager attention takes it."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def _run_last_layer(
    layer: Any,
    hidden: Tensor,
    mask: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    keep: Tensor,
    kv_cache: KVCacheProtocol | None,
) -> Tensor:
    """Run a decoder layer of Gemma 1 or 2 where `keep` is set: (kept, width)."""
    asked = layer.input_layernorm(hidden)
    return mlp_block(
        layer,
        hidden[keep],
        _attend(layer.self_attn, asked, mask, position_embeddings, keep, kv_cache),
    )


def mlp_block(layer: Any, hidden: Tensor, attention_output: Tensor) -> Tensor:
    """Run the rest of a decoder layer of Gemma 1 or 2: (..., width), what came in and what its
    attention made of it."""
    if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma 2 has norms behind both halves as well
        hidden = hidden + layer.post_attention_layernorm(attention_output)
        changed: Tensor = layer.mlp(layer.pre_feedforward_layernorm(hidden))
        changed = layer.post_feedforward_layernorm(changed)
    else:
        hidden = hidden + attention_output
        changed = layer.mlp(layer.post_attention_layernorm(hidden))
    return hidden + changed


def _attend(
    attention: Any,
    hidden: Tensor,
    mask: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    keep: Tensor,
    kv_cache: KVCacheProtocol | None,
) -> Tensor:
    """Attend from the kept positions to all of their row: (kept, width)."""
    batch, _, width = hidden.shape
    # Kept positions come first in each row, in order; rows with fewer are filled up with others.
    counts = keep.sum(dim=1)
    queries = int(counts.max())
    at = torch.argsort(~keep, dim=1, stable=True)[:, :queries]
    filled = torch.arange(queries, device=keep.device) < counts[:, None]
    asking = hidden.gather(1, at[:, :, None].expand(-1, -1, width))

    def heads(projected: Tensor) -> Tensor:
        return projected.view(batch, projected.shape[1], -1, attention.head_dim).transpose(1, 2)

    cosine, sine = position_embeddings
    rows = torch.arange(batch, device=keep.device)[:, None]
    cosine, sine = cosine.expand(batch, -1, -1), sine.expand(batch, -1, -1)
    query = apply_rope(heads(attention.q_proj(asking)), cosine[rows, at], sine[rows, at])
    key = apply_rope(heads(attention.k_proj(hidden)), cosine, sine)
    value = heads(attention.v_proj(hidden))
    if kv_cache is not None:
        key, value = kv_cache.update(key, value, attention.layer_idx)
    mask = mask.expand(batch, -1, -1, -1)[rows, 0, at][:, None]
    attended, _ = _attention_function(attention)(
        attention,
        query,
        key,
        value,
        mask,
        dropout=attention.attention_dropout if attention.training else 0.0,
        scaling=attention.scaling,
        softcap=getattr(attention, "attn_logit_softcapping", None),
    )
    projected: Tensor = attention.o_proj(attended.reshape(batch, queries, -1)[filled])
    return projected


def apply_rope(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions: states (batch, heads, tokens, width), angles without the heads."""
    left, right = states.chunk(2, dim=-1)
    turned = torch.cat((-right, left), dim=-1)
    return states * cos[:, None] + turned * sin[:, None]


def _attention_function(attention: Any) -> Any:
    eager = sys.modules[type(attention).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager)
