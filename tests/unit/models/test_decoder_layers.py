"""Positions and masks of rows with one suffix and with several, spelt out."""

import torch

from palitune.models.decoder_layers import (
    compute_position_ids,
    prefix_lengths,
    prefix_lm_mask,
    sliding_window_mask,
)

# Image and prompt, two suffixes of it, padding; and a row with one suffix.
TYPES = torch.tensor([[0, 0, 1, 1, 2, 0], [0, 0, 0, 1, 1, 1]])
REAL = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]])


def test_every_suffix_goes_on_where_the_prefix_ends() -> None:
    assert compute_position_ids(TYPES, REAL)[0, :5].tolist() == [1, 2, 3, 4, 3]
    assert compute_position_ids(TYPES, REAL)[1].tolist() == [1, 2, 3, 4, 5, 6]
    assert prefix_lengths(TYPES, REAL).tolist() == [2, 3]


def test_a_suffix_sees_prefix_and_own_past_and_no_other_suffix() -> None:
    assert prefix_lm_mask(TYPES, REAL)[0, 0, :5].int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
    ]


def test_a_window_hides_the_far_prefix_from_suffixes_only() -> None:
    positions = compute_position_ids(TYPES, REAL)
    seen = sliding_window_mask(prefix_lm_mask(TYPES, REAL), TYPES, positions, window=2)
    assert seen[1, 0].int().tolist() == [
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]
    # The second suffix stands right behind the prefix, whatever lies between in the row.
    assert seen[0, 0, 4].int().tolist() == [0, 1, 0, 0, 1, 0]
