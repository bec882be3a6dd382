"""The loss by hand, and its invariances."""

import pytest
import torch

from palitune.data.collator import IGNORE_INDEX
from palitune.training.config import LossReduction
from palitune.training.loss import count_items, loss_positions, token_losses, token_weights

LABELS = torch.tensor(
    [
        [IGNORE_INDEX, IGNORE_INDEX, 5, 6, 7],
        [IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX, 3, IGNORE_INDEX],
    ]
)


def test_logits_are_taken_one_position_before_each_label() -> None:
    assert loss_positions(LABELS).tolist() == [
        [False, True, True, True, False],
        [False, False, True, False, False],
    ]


def test_token_losses_equal_torchs_cross_entropy() -> None:
    logits, targets = torch.randn(6, 11), torch.randint(11, (6,))
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    assert torch.allclose(token_losses(logits, targets), expected, atol=1e-6)


def test_label_smoothing_spreads_over_the_other_tokens() -> None:
    logits, targets, share = torch.randn(6, 11), torch.randint(11, (6,)), 0.3
    wanted = torch.full((6, 11), share / 10)
    wanted[torch.arange(6), targets] = 1 - share
    expected = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
    assert torch.allclose(token_losses(logits, targets, share), expected, atol=1e-6)


def test_by_example_every_row_weighs_the_same() -> None:
    weights = token_weights(LABELS, LossReduction.example)
    assert weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])
    assert count_items(LABELS, LossReduction.example) == 2


def test_by_token_every_label_weighs_the_same() -> None:
    assert token_weights(LABELS, LossReduction.token).tolist() == [1.0] * 4
    assert count_items(LABELS, LossReduction.token) == 4


def test_by_example_every_suffix_of_a_row_weighs_the_same() -> None:
    types = torch.tensor([[0, 0, 1, 1, 2], [0, 0, 0, 1, 0]])
    weights = token_weights(LABELS, LossReduction.example, types)
    assert weights.tolist() == pytest.approx([1 / 2, 1 / 2, 1.0, 1.0])
    assert count_items(LABELS, LossReduction.example, types) == 3
