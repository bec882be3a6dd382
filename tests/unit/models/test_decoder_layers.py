"""Positions and masks of rows with one suffix and with several, as literals."""

import torch

from palitune.models.decoder_layers import (
    compute_position_ids,
    prefix_lengths,
    prefix_lm_mask,
    sliding_window_mask,
)

# A row with prefix, two suffixes and padding, and a row with one suffix.
TYPES = torch.tensor([[0, 0, 1, 1, 2, 0], [0, 0, 0, 1, 1, 1]])
ATTENTION_MASK = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])


def test_the_positions_of_every_suffix_continue_after_the_prefix() -> None:
    assert compute_position_ids(TYPES, ATTENTION_MASK)[0, :5].tolist() == [1, 2, 3, 4, 3]
    assert compute_position_ids(TYPES, ATTENTION_MASK)[1].tolist() == [1, 2, 3, 4, 5, 6]
    assert prefix_lengths(TYPES, ATTENTION_MASK).tolist() == [2, 3]


def test_a_suffix_attends_to_the_prefix_and_its_own_past_only() -> None:
    assert prefix_lm_mask(TYPES, ATTENTION_MASK)[0, 0, :5].int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
    ]


def test_a_window_hides_the_far_prefix_from_suffixes_only() -> None:
    positions = compute_position_ids(TYPES, ATTENTION_MASK)
    visible = sliding_window_mask(prefix_lm_mask(TYPES, ATTENTION_MASK), TYPES, positions, window=2)
    assert visible[1, 0].int().tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]
    # The positions of the second suffix follow those of the prefix directly.
    assert visible[0, 0, 4].int().tolist() == [0, 1, 0, 0, 1, 0]
