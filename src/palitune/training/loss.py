"""The loss: negative log-likelihood of suffix and EOS, reduced the way PaliGemma was trained.

big_vision's `trainers/proj/paligemma/train.py` takes the mean over the suffix tokens of an
example, then the mean over examples; the stock Trainer's mean over tokens would let long suffixes
weigh more.
"""

import torch
import torch.nn.functional as F

from palitune.data.collator import IGNORED
from palitune.training.settings import LossReduction


def loss_positions(labels: torch.Tensor) -> torch.Tensor:
    """Positions whose logits predict a label: (batch, tokens) bool, one left of each label."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED) != IGNORED


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


def token_weights(labels: torch.Tensor, reduction: LossReduction) -> torch.Tensor:
    """Weight of each label in row-major order, so that sum(weights * losses) / items is the loss.

    `items` is the number of examples (reduction `example`) or of labels (`token`), counted over the
    whole optimizer step: see `count_items`.
    """
    positions = loss_positions(labels)
    if reduction is LossReduction.token:
        return torch.ones(int(positions.sum()), device=labels.device)
    per_row = 1.0 / positions.sum(dim=1).clamp(min=1)
    return per_row[:, None].expand(positions.shape)[positions]


def count_items(labels: torch.Tensor, reduction: LossReduction) -> int:
    """What the summed loss of these rows is divided by."""
    if reduction is LossReduction.example:
        return labels.shape[0]
    return int((labels[:, 1:] != IGNORED).sum())
