"""Weights that reduce token losses as PaliGemma was trained.

big_vision's `trainers/proj/paligemma/train.py` takes the mean over the suffix tokens of an example,
then the mean over examples. The stock Trainer's mean over tokens would give long suffixes a larger
weight.
"""

import torch

from palitune.models.lm_head import IGNORE_INDEX
from palitune.training.config import LossReduction


def token_weights(
    labels: torch.Tensor, reduction: LossReduction, token_types: torch.Tensor | None = None
) -> torch.Tensor:
    """Return weights w of the labels in row-major order; the loss is sum(w * losses) / items.

    `items` is the number from `count_items`, summed over the whole optimizer step.

    Args:
        labels: (batch, tokens) int64, IGNORE_INDEX where no loss is taken.
        reduction: `example`: all suffixes have the same weight; `token`: all labels.
        token_types: The batch's token_type_ids, which separate the suffixes of a row; None: one
            suffix per row.
    """
    has_label = labels[:, 1:] != IGNORE_INDEX
    if reduction is LossReduction.token:
        return torch.ones(int(has_label.sum()), device=labels.device)
    row, column = torch.nonzero(has_label, as_tuple=True)
    suffix = row
    if token_types is not None:
        suffix = row * (int(token_types.max()) + 1) + token_types[row, column + 1]
    return 1.0 / torch.bincount(suffix)[suffix]


def count_items(
    labels: torch.Tensor, reduction: LossReduction, token_types: torch.Tensor | None = None
) -> int:
    """Return the divisor of the summed loss: the number of suffixes or of labels.

    The arguments are those of `token_weights`.
    """
    if reduction is LossReduction.token:
        return int((labels[:, 1:] != IGNORE_INDEX).sum())
    return len(labels) if token_types is None else int(token_types.amax(dim=1).clamp(min=1).sum())
