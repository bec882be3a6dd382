"""Forward pass of the Gemma decoder with the prefix-LM mask.

The stock forward pass computes every layer at every position. Here the last layer computes queries,
attention output and MLP only at the requested positions; its keys and values still come from all.
"""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from palitune.models.attention import FLEX_ATTENTION
from palitune.models.flex_attention import mask_of_queries, prefix_lm_block_mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

LAYER_TYPES = ("full_attention", "sliding_attention")


class KVCacheProtocol(Protocol):
    """The method of a transformers cache that decoder layers call."""

    def update(self, key: Tensor, value: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Store keys and values, (batch, key heads, tokens, width) each; return those to use."""


def compute_position_ids(token_types: Tensor, attention_mask: Tensor) -> Tensor:
    """Number the tokens of padded rows from 1; every suffix continues after the prefix.

    token_types: (batch, tokens), 0 on the prefix and padding, k on the k-th suffix.
    """
    index = attention_mask.cumsum(dim=1) - 1
    starts = torch.zeros_like(token_types, dtype=torch.bool)
    starts[:, 1:] = token_types[:, 1:] != token_types[:, :-1]
    start = torch.where(starts, index, 0).cummax(dim=1).values
    after_prefix = index - start + prefix_lengths(token_types, attention_mask)[:, None]
    return torch.where(token_types > 0, after_prefix, index) + 1


def prefix_lengths(token_types: Tensor, attention_mask: Tensor) -> Tensor:
    """Count the image and prefix tokens of each row: (batch,)."""
    return ((token_types == 0) & attention_mask.bool()).sum(dim=1)


def prefix_lm_mask(token_types: Tensor, attention_mask: Tensor, query_start: int = 0) -> Tensor:
    """Return the prefix-LM attention mask: (batch, 1, queries, keys) bool, True is attended to.

    Image and prefix attend to each other in both directions. A suffix attends to them and to its
    own past, not to other suffixes of the row. No token attends to padding. Rows are queries:

                  image  prefix  suffix 1  suffix 2  padding
        image      x x    x x      . .       . .       .
                   x x    x x      . .       . .       .
        prefix     x x    x x      . .       . .       .
                   x x    x x      . .       . .       .
        suffix 1   x x    x x      x .       . .       .
                   x x    x x      x x       . .       .
        suffix 2   x x    x x      . .       x .       .
                   x x    x x      . .       x x       .
        padding    x x    x x      . .       . .       .    (its output is ignored)

    Args:
        token_types: (batch, tokens), 0 on image, prefix and padding, k on the k-th suffix.
        attention_mask: (batch, tokens), 0 on padding.
        query_start: Index of the first query; keys are always all tokens.
    """
    index = torch.arange(token_types.shape[1], device=token_types.device)
    key_types = token_types[:, None, None, :]
    own_past = (token_types[:, None, query_start:, None] == key_types) & (
        index[query_start:, None] >= index
    )
    return (own_past | (key_types == 0)) & attention_mask.bool()[:, None, None, :]


def sliding_window_mask(
    mask: Tensor, token_types: Tensor, positions: Tensor, window: int, query_start: int = 0
) -> Tensor:
    """Restrict a mask to the last `window` positions, except from prefix to prefix.

    Args:
        mask: Mask from `prefix_lm_mask`.
        token_types: (batch, tokens), as in `prefix_lm_mask`.
        positions: (batch, tokens) from `compute_position_ids`.
        window: Width of the sliding window, in positions.
        query_start: Index of the first query.
    """
    prefix = token_types == 0
    # No difference of positions: it would be an int64 for each pair of tokens.
    near = positions[:, query_start:, None] < (positions + window)[:, None, :]
    return mask & (near | (prefix[:, query_start:, None] & prefix[:, None, :]))[:, None]


def masks_by_layer_type(
    language_model: Any,
    token_types: Tensor,
    attention_mask: Tensor,
    positions: Tensor,
    query_start: int = 0,
) -> dict[str, Tensor]:
    """Return the mask of full attention and, if the model has one, of the sliding window.

    The arguments are those of `prefix_lm_mask` and `sliding_window_mask`.
    """
    full = prefix_lm_mask(token_types, attention_mask, query_start)
    masks = {"full_attention": full}
    if window := getattr(language_model.config, "sliding_window", None):
        masks["sliding_attention"] = sliding_window_mask(
            full, token_types, positions, window, query_start
        )
    return masks


def attention_masks(
    language_model: Any, token_types: Tensor, attention_mask: Tensor, positions: Tensor
) -> "dict[str, Tensor | BlockMask]":
    """Return the mask of each layer type in the form of the attention implementation.

    With flex_attention it is a block mask, otherwise a tensor. Both types share one mask if no row
    is longer than the sliding window.

    Args:
        language_model: Gemma 1 or 2 without its head.
        token_types: (batch, tokens), as in `prefix_lm_mask`.
        attention_mask: (batch, tokens), 0 on padding.
        positions: (batch, tokens) from `compute_position_ids`.
    """
    window = getattr(language_model.config, "sliding_window", None)
    has_window = window is not None and token_types.shape[1] > window
    if language_model.config._attn_implementation == FLEX_ATTENTION:
        full = prefix_lm_block_mask(token_types, attention_mask)
        sliding = (
            prefix_lm_block_mask(token_types, attention_mask, positions, window)
            if has_window
            else full
        )
        return {"full_attention": full, "sliding_attention": sliding}
    if has_window:
        return dict(masks_by_layer_type(language_model, token_types, attention_mask, positions))
    return dict.fromkeys(LAYER_TYPES, prefix_lm_mask(token_types, attention_mask))


@dataclass(frozen=True)
class KeptPositions:
    """Positions at which the last layer computes queries, attention output and MLP."""

    column: Tensor
    """Tokens of each row, (batch, queries) int64; rows with fewer are filled up with others."""
    kept: Tensor
    """Indices of the positions among the flattened `column`, (kept,) int64."""
    flat: Tensor
    """Indices of the positions among all tokens of the flattened batch, (kept,) int64."""

    @classmethod
    def from_mask(cls, keep: Tensor) -> "KeptPositions":
        """Return the positions where `keep`, (batch, tokens) bool, is True, in row-major order.

        On a GPU this waits for the device; the collator computes them on the CPU.
        """
        counts = keep.sum(dim=1)
        num_queries = int(counts.max())
        # Kept positions come first in each row, in order.
        column = torch.argsort(~keep, dim=1, stable=True)[:, :num_queries]
        is_kept = torch.arange(num_queries, device=keep.device) < counts[:, None]
        return cls(column, is_kept.flatten().nonzero()[:, 0], keep.flatten().nonzero()[:, 0])

    @classmethod
    def last(cls, batch_size: int, num_tokens: int, device: torch.device) -> "KeptPositions":
        """Return the last token of each row."""
        rows = torch.arange(batch_size, device=device)
        last = num_tokens - 1
        return cls(torch.full_like(rows, last)[:, None], rows, rows * num_tokens + last)


def run_decoder(
    language_model: Any,
    embeddings: Tensor,
    masks: Mapping[str, Any],
    positions: Tensor,
    keep: KeptPositions,
    kv_cache: KVCacheProtocol | None = None,
) -> Tensor:
    """Return the final hidden states at the kept positions: (kept, width).

    Args:
        language_model: Gemma 1 or 2 without its head.
        embeddings: Input embeddings, (batch, tokens, width).
        masks: Attention mask by layer type, a block mask or (batch, 1, queries, keys) bool.
        positions: (batch, tokens) int64.
        keep: Positions whose hidden states are returned.
        kv_cache: Receives keys and values of every layer at all positions.
    """
    kinds = layer_types(language_model)
    last_mask = mask_of_queries(masks[kinds[-1]], keep.column)
    if language_model.config._attn_implementation == "eager":
        dtype = embeddings.dtype
        masks = {kind: to_additive_mask(masks[kind], dtype) for kind in set(kinds)}
        last_mask = to_additive_mask(last_mask, dtype)
    rotary = language_model.rotary_emb(embeddings, position_ids=positions)
    hidden = embeddings
    with _uncompiled(language_model) if kv_cache is not None else nullcontext():
        for layer, kind in zip(language_model.layers[:-1], kinds[:-1], strict=True):
            hidden = layer(
                hidden,
                attention_mask=masks[kind],
                position_ids=positions,
                position_embeddings=rotary,
                past_key_values=kv_cache,
            )
    last = language_model.layers[-1]
    attended = _attend(
        last.self_attn, last.input_layernorm(hidden), last_mask, rotary, keep, kv_cache
    )
    kept = hidden.flatten(0, 1)[keep.flat]
    final: Tensor = language_model.norm(mlp_block(last, kept, attended))
    return final


def compile_layers(language_model: Any) -> None:
    """Compile each decoder layer but the last, for batches of any length.

    All layers of one type share their graphs. The last layer computes only some positions in
    `run_decoder`, which compiles nothing.
    """
    # Scales and soft-caps are constants; flex_attention does not accept them as inputs of a graph.
    torch._dynamo.config.specialize_float = True
    for layer in language_model.layers[:-1]:
        layer.compile(dynamic=True)


def _uncompiled(language_model: Any) -> AbstractContextManager[Any]:
    """Run the layers as they are: a cache has the state of one layer, hence graphs of its own."""
    if language_model.layers[0]._compiled_call_impl is None:
        return nullcontext()
    context: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return context


def layer_types(language_model: Any) -> list[str]:
    """Return the type of each layer: "full_attention" or "sliding_attention"."""
    kinds: list[str] | None = getattr(language_model.config, "layer_types", None)
    return kinds or ["full_attention"] * len(language_model.layers)


def to_additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a bool mask to the additive mask of eager attention."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def mlp_block(layer: Any, hidden: Tensor, attention_output: Tensor) -> Tensor:
    """Run the rest of a decoder layer after its attention: (..., width).

    hidden: Input of the layer, (..., width); attention_output: output of its self-attention.
    """
    if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma 2 also normalizes both outputs
        hidden = hidden + layer.post_attention_layernorm(attention_output)
        mlp_output: Tensor = layer.mlp(layer.pre_feedforward_layernorm(hidden))
        mlp_output = layer.post_feedforward_layernorm(mlp_output)
    else:
        hidden = hidden + attention_output
        mlp_output = layer.mlp(layer.post_attention_layernorm(hidden))
    return hidden + mlp_output


def _attend(
    attention: Any,
    hidden: Tensor,
    mask: Tensor,
    position_embeddings: tuple[Tensor, Tensor],
    keep: KeptPositions,
    kv_cache: KVCacheProtocol | None,
) -> Tensor:
    """Attend from the kept positions to all positions of their row: (kept, width).

    mask: Mask of the queries `keep.column`, (batch, 1, queries, keys).
    """
    batch, _, width = hidden.shape
    column = keep.column
    queries_from = hidden.gather(1, column[:, :, None].expand(-1, -1, width))

    def split_heads(projected: Tensor) -> Tensor:
        return projected.view(batch, projected.shape[1], -1, attention.head_dim).transpose(1, 2)

    rows = torch.arange(batch, device=column.device)[:, None]
    cos, sin = (angles.expand(batch, -1, -1) for angles in position_embeddings)
    query = apply_rope(
        split_heads(attention.q_proj(queries_from)), cos[rows, column], sin[rows, column]
    )
    key = apply_rope(split_heads(attention.k_proj(hidden)), cos, sin)
    value = split_heads(attention.v_proj(hidden))
    if kv_cache is not None:
        key, value = kv_cache.update(key, value, attention.layer_idx)
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
    output: Tensor = attention.o_proj(attended.flatten(2).flatten(0, 1)[keep.kept])
    return output


def apply_rope(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary position embeddings.

    states: (batch, heads, tokens, width); cos and sin: (batch, tokens, width).
    """
    left, right = states.chunk(2, dim=-1)
    rotated = torch.cat((-right, left), dim=-1)
    return states * cos[:, None] + rotated * sin[:, None]


def _attention_function(attention: Any) -> Any:
    eager = sys.modules[type(attention).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager)
