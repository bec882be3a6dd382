"""The loss: negative log-likelihood of suffix and EOS, reduced the way PaliGemma was trained.

big_vision's `trainers/proj/paligemma/train.py` takes the mean over the suffix tokens of an
example, then the mean over examples; the stock Trainer's mean over tokens would let long suffixes
weigh more.
"""

import torch
import torch.nn.functional as F

from palitune.data.collator import IGNORE_INDEX
from palitune.training.config import LossReduction


def loss_positions(labels: torch.Tensor) -> torch.Tensor:
    """Positions whose logits predict a label: (batch, tokens) bool, one left of each label."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX) != IGNORE_INDEX


def token_losses(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Negative log-likelihood per target: logits (n, vocabulary), targets (n,) -> (n,) float32.

    Smoothing gives the truth 1 - e and each *other* token e / (vocabulary - 1), as big_vision does
    (torch spreads e over all tokens, the truth included).
    """
    log_probs = F.log_softmax(logits.float(), dim=-1)
    truth = log_probs.gather(-1, targets[:, None])[:, 0]
    if not label_smoothing:
        return -truth
    others = (log_probs.sum(-1) - truth) / (logits.shape[-1] - 1)
    return -((1 - label_smoothing) * truth + label_smoothing * others)


def token_weights(
    labels: torch.Tensor, reduction: LossReduction, token_types: torch.Tensor | None = None
) -> torch.Tensor:
    """Weight of each label in row-major order, so that sum(weights * losses) / items is the loss.

    `items` is the number of suffixes (reduction `example`) or of labels (`token`), counted over the
    whole optimizer step: see `count_items`. `types`, (batch, tokens), tells the suffixes of a row
    apart, as the batch's token_type_ids do; without it a row has one.
    """
    labelled = labels[:, 1:] != IGNORE_INDEX
    if reduction is LossReduction.token:
        return torch.ones(int(labelled.sum()), device=labels.device)
    row, column = torch.nonzero(labelled, as_tuple=True)
    suffix = (
        row
        if token_types is None
        else row * (int(token_types.max()) + 1) + token_types[row, column + 1]
    )
    return 1.0 / torch.bincount(suffix)[suffix]


def count_items(
    labels: torch.Tensor, reduction: LossReduction, token_types: torch.Tensor | None = None
) -> int:
    """What the summed loss of these rows is divided by."""
    if reduction is LossReduction.token:
        return int((labels[:, 1:] != IGNORE_INDEX).sum())
    return len(labels) if token_types is None else int(token_types.amax(dim=1).clamp(min=1).sum())
