"""Prefix-LM attention with torch's flex_attention, which computes mask and soft-cap in its kernel.

On a GPU neither scores nor masks are stored, and the kernel skips blocks of 128 x 128 that are
masked as a whole. On a CPU torch has no such kernel: there the operator runs uncompiled, as a
reference that stores all scores.

A soft-cap leaves no other kernel of torch. Without one, SDPA would do; but with a mask and heads
256 wide (Gemma) it runs its memory-efficient kernel, reported to take 5 to 9 times as long as
without a mask on a B200 (unslothai/unsloth pull request 11102).
"""

import functools
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._higher_order_ops.flex_attention import flex_attention as flex_attention_operator

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

MIN_COMPUTE_CAPABILITY = (8, 0)
"""Oldest cards that use flex_attention by default: Ampere. Triton hardly supports older ones."""

_SMALL_SHARED_MEMORY = 101_376
"""Bytes of shared memory per block of consumer cards (compute capability 8.6, 8.9 and 12.x). Torch
2.13 has block sizes for the 166,912 of an A100 and the 232,448 of an H100 only."""
_SMALL_BLOCKS_16_BIT = {
    # Forward pass: torch's own for compute capability 12.0 and heads 256 wide.
    "fwd_BLOCK_M": 32,
    "fwd_BLOCK_N": 64,
    "fwd_num_stages": 2,
    "fwd_num_warps": 4,
    # Backward pass: the fastest that fits on a GB10 (pytorch/pytorch pull request 198228).
    "bwd_BLOCK_M1": 32,
    "bwd_BLOCK_N1": 32,
    "bwd_BLOCK_M2": 32,
    "bwd_BLOCK_N2": 32,
    "bwd_num_stages": 2,
    "bwd_num_warps": 4,
}
_SMALL_BLOCKS_FLOAT32 = {
    # As above; torch's blocks for the backward pass, 16 x 16, fit everywhere.
    "fwd_BLOCK_M": 64,
    "fwd_BLOCK_N": 16,
    "fwd_num_stages": 2,
    "fwd_num_warps": 4,
}
_EAGER_OPTIONS = {"PRESCALE_QK": False, "OUTPUT_LOGSUMEXP": True, "OUTPUT_MAX": False}


def is_available() -> bool:
    """Return whether torch has flex_attention."""
    return importlib.util.find_spec("torch.nn.attention.flex_attention") is not None


def is_fast() -> bool:
    """Return whether torch has the kernel for the GPU; without a GPU, for the cards of today."""
    if not is_available():
        return False
    no_gpu = not torch.cuda.is_available()
    return no_gpu or torch.cuda.get_device_capability() >= MIN_COMPUTE_CAPABILITY


def compilation_error(
    heads: tuple[int, int, int], softcap: float | None, device: torch.device, dtype: torch.dtype
) -> str | None:
    """Compile the forward and the backward kernel; return the first line of an error, or None.

    The compiled kernels serve the training; a card with too little shared memory fails here.

    Args:
        heads: Number of query heads, number of key heads, and their width.
        softcap: Soft-cap of the scores, or None.
        device: The GPU.
        dtype: Dtype of query, key and value.
    """
    num_heads, num_key_heads, width = heads
    batch, tokens = 2, 300  # as in a training: more than one row, and more than one block
    types = torch.zeros(batch, tokens, dtype=torch.long, device=device)
    mask = prefix_lm_block_mask(types, torch.ones_like(types))
    query, key, value = (
        torch.zeros(
            batch, tokens, number, width, dtype=dtype, device=device, requires_grad=True
        ).transpose(1, 2)
        for number in (num_heads, num_key_heads, num_key_heads)
    )
    try:
        attended = attend_in_kernel(query, key, value, mask, width**-0.5, softcap)
        torch.autograd.grad(attended.sum(), (query, key, value))
    except Exception as error:  # torch, Triton and the C compiler raise errors of any kind
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return None


def kernel_options(head_dim: int, dtype: torch.dtype, shared_memory: int) -> dict[str, int]:
    """Return the block sizes that torch does not choose itself.

    Args:
        head_dim: Width of a head.
        dtype: Dtype of query, key and value.
        shared_memory: Bytes of shared memory that a block of the card may use.
    """
    if head_dim <= 128 or shared_memory > _SMALL_SHARED_MEMORY:
        return {}
    return _SMALL_BLOCKS_FLOAT32 if dtype == torch.float32 else _SMALL_BLOCKS_16_BIT


def prefix_lm_block_mask(
    token_types: Tensor,
    attention_mask: Tensor,
    positions: Tensor | None = None,
    window: int | None = None,
) -> "BlockMask":
    """Return the mask of `decoder_layers.prefix_lm_mask` as a function with a map of its blocks.

    Args:
        token_types: (batch, tokens), 0 on image, prefix and padding, k on the k-th suffix.
        attention_mask: (batch, tokens), 0 on padding.
        positions: (batch, tokens) from `decoder_layers.compute_position_ids`, for a window.
        window: Width of the sliding window in positions, or None.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    query_types = token_types.int()
    key_types = torch.where(attention_mask.bool(), query_types, -1)  # -1 matches no query

    def is_visible(batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        key_type = key_types[batch, key]
        own_past = (query_types[batch, query] == key_type) & (query >= key)
        return own_past | (key_type == 0)

    mask_mod: Callable[..., Tensor] = is_visible
    if window is not None and positions is not None:
        starts = positions.int()
        ends = starts + window

        def is_near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            near = starts[batch, query] < ends[batch, key]
            in_prefix = (query_types[batch, query] == 0) & (key_types[batch, key] == 0)
            return is_visible(batch, head, query, key) & (near | in_prefix)

        mask_mod = is_near
    batch_size, length = token_types.shape
    return create_block_mask(mask_mod, batch_size, None, length, length, token_types.device)


def mask_of_queries(mask: "Tensor | BlockMask", index: Tensor) -> Tensor:
    """Return the mask of some queries of each row: (batch, 1, selected, keys) bool.

    Args:
        mask: (batch or 1, 1, queries, keys) bool, or a block mask.
        index: Selected queries, (batch, selected) int64.
    """
    rows = torch.arange(len(index), device=index.device)[:, None]
    if isinstance(mask, Tensor):
        return mask.expand(len(index), -1, -1, -1)[rows, 0, index][:, None]
    keys = torch.arange(mask.shape[-1], device=index.device)
    head = torch.zeros_like(keys)  # all heads share the mask
    visible: Tensor = mask.mask_mod(rows[:, :, None], head, index[:, :, None], keys)
    return visible[:, None]


def attend_in_kernel(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    block_mask: "BlockMask",
    scale: float,
    softcap: float | None,
) -> Tensor:
    """Attend from all queries: (batch, queries, heads, width).

    Args:
        query: (batch, heads, queries, width).
        key: (batch, key heads, keys, width).
        value: (batch, key heads, keys, width).
        block_mask: Mask from `prefix_lm_block_mask`.
        scale: Factor of the scores.
        softcap: Soft-cap of the scores, or None.
    """

    def cap(score: Tensor, _b: Tensor, _h: Tensor, _q: Tensor, _k: Tensor) -> Tensor:
        return score if softcap is None else softcap * torch.tanh(score / softcap)

    if query.device.type == "cpu":
        attended = flex_attention_operator(
            query, key, value, cap, block_mask.as_tuple(), scale, _EAGER_OPTIONS
        )[0]
    else:
        attended = _flex_attention()(
            query,
            key,
            value,
            score_mod=cap,
            block_mask=block_mask,
            scale=scale,
            enable_gqa=True,
            kernel_options=kernel_options(
                query.shape[-1], query.dtype, _shared_memory(query.device)
            ),
        )
    return attended.transpose(1, 2)


def _flex_attention() -> Any:
    """Return torch's function inside a compiled layer, a compiled one elsewhere."""
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention if torch.compiler.is_compiling() else _compiled_flex_attention()


@functools.cache
def _compiled_flex_attention() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    # Scale and soft-cap are constants; they cannot be inputs of a graph.
    torch._dynamo.config.specialize_float = True
    return torch.compile(flex_attention, dynamic=True)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _shared_memory(device: torch.device) -> int:
    properties: Any = torch.cuda.get_device_properties(device)
    return int(properties.shared_memory_per_block_optin)
