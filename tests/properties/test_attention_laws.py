"""Laws of prefix-LM masks and attention, over lengths and layouts of suffixes."""

from types import SimpleNamespace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from palitune.models import attention, decoder_layers, flex_attention

# A row: tokens of its prefix, and of each of its suffixes.
ROWS = st.lists(
    st.tuples(st.integers(1, 12), st.lists(st.integers(1, 6), max_size=3)), min_size=1, max_size=3
)
Rows = list[tuple[int, list[int]]]


def types_and_padding(rows: Rows) -> tuple[Tensor, Tensor]:
    """Return token types and attention mask of right-padded rows."""
    types, real = [], []
    for prefix, suffixes in rows:
        segments = [0] * prefix + [k for k, size in enumerate(suffixes, 1) for _ in range(size)]
        types.append(torch.tensor(segments))
        real.append(torch.ones(len(segments), dtype=torch.long))
    return tuple(torch.nn.utils.rnn.pad_sequence(part, batch_first=True) for part in (types, real))


@given(rows=ROWS, window=st.none() | st.integers(1, 20))
@settings(deadline=None, max_examples=30)
def test_the_block_mask_shows_every_query_what_the_tensor_mask_shows(
    rows: Rows, window: int | None
) -> None:
    types, real = types_and_padding(rows)
    positions = decoder_layers.compute_position_ids(types, real)
    expected = decoder_layers.prefix_lm_mask(types, real)
    if window:
        expected = decoder_layers.sliding_window_mask(expected, types, positions, window)
    block_mask = flex_attention.prefix_lm_block_mask(types, real, positions, window)
    queries = torch.arange(types.shape[1]).flip(0).expand_as(types)
    for mask in (block_mask, expected):
        visible = flex_attention.mask_of_queries(mask, queries)
        assert torch.equal(visible, expected.flip(2))


@given(rows=ROWS, key_heads=st.sampled_from([1, 2, 4]), softcap=st.sampled_from([None, 2.0]))
@settings(deadline=None, max_examples=20)
def test_flex_and_chunked_give_outputs_and_gradients_of_eager(
    rows: Rows, key_heads: int, softcap: float | None
) -> None:
    types, real = types_and_padding(rows)
    batch, length = types.shape
    mask = decoder_layers.prefix_lm_mask(types, real)
    masks = {
        eager_attention_forward: decoder_layers.to_additive_mask(mask, torch.float32),
        attention.chunked_attention: mask,
        attention.flex_attention: flex_attention.prefix_lm_block_mask(types, real),
    }
    torch.manual_seed(length)
    inputs = [
        torch.randn(batch, heads, length, 8, requires_grad=True)
        for heads in (4, key_heads, key_heads)
    ]
    gradient = torch.randn(batch, length, 4, 8)
    layer = SimpleNamespace(num_key_value_groups=4 // key_heads, training=True, head_dim=8)
    results = []
    for attend, its_mask in masks.items():
        output = attend(layer, *inputs, its_mask, scaling=0.35, softcap=softcap)[0]
        results.append([output, *torch.autograd.grad(output, inputs, gradient)])
    for other in results[1:]:
        for actual, expected in zip(other, results[0], strict=True):
            torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


@given(rows=ROWS, extra=st.integers(0, 3))
@settings(deadline=None, max_examples=30)
def test_a_window_of_the_length_of_the_rows_hides_nothing(rows: Rows, extra: int) -> None:
    types, real = types_and_padding(rows)
    positions = decoder_layers.compute_position_ids(types, real)
    full = decoder_layers.prefix_lm_mask(types, real)
    window = types.shape[1] + extra
    assert torch.equal(decoder_layers.sliding_window_mask(full, types, positions, window), full)
