"""Weights of token losses for both reductions."""

import pytest
import torch

from palitune.models.lm_head import IGNORE_INDEX
from palitune.training.config import LossReduction
from palitune.training.loss import count_items, token_weights

LABELS = torch.tensor(
    [
        [IGNORE_INDEX, IGNORE_INDEX, 5, 6, 7],
        [IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX, 3, IGNORE_INDEX],
    ]
)


def test_by_example_every_row_has_the_same_weight() -> None:
    weights = token_weights(LABELS, LossReduction.example)
    assert weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])
    assert count_items(LABELS, LossReduction.example) == 2


def test_by_token_every_label_has_the_same_weight() -> None:
    assert token_weights(LABELS, LossReduction.token).tolist() == [1.0] * 4
    assert count_items(LABELS, LossReduction.token) == 4


def test_by_example_every_suffix_of_a_row_has_the_same_weight() -> None:
    types = torch.tensor([[0, 0, 1, 1, 2], [0, 0, 0, 1, 0]])
    weights = token_weights(LABELS, LossReduction.example, types)
    assert weights.tolist() == pytest.approx([1 / 2, 1 / 2, 1.0, 1.0])
    assert count_items(LABELS, LossReduction.example, types) == 3
