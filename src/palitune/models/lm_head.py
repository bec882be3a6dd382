"""Language-model head: positions that predict labels, log-likelihoods, and a chunked loss.

With 257,216 tokens in the vocabulary, the float32 logits of one position take a megabyte, and a
loss holds several copies. The training losses here compute the logits of a few dozen positions at a
time, in the forward and the backward pass.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

IGNORE_INDEX = -100
"""Label of a token without a loss, as in torch's cross_entropy."""
CHUNK_BYTES = {"cpu": 32 << 20, "cuda": 256 << 20}
"""Float32 logits computed at a time: 32 positions of PaliGemma's vocabulary on a CPU, 260 on a GPU,
where chunks are larger because every chunk reads the whole weight of the head."""


def loss_positions(labels: Tensor) -> Tensor:
    """Return where logits predict a label of a row with one suffix: (batch, tokens) bool.

    labels: (batch, tokens) int64, IGNORE_INDEX where no loss is taken.
    """
    return F.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX) != IGNORE_INDEX


def label_positions(labels: Tensor, token_types: Tensor) -> tuple[Tensor, Tensor]:
    """Return where logits predict a label of a row with several suffixes.

    The first token of every suffix is predicted by the last token of the prefix.

    Args:
        labels: (batch, tokens) int64, IGNORE_INDEX where no loss is taken.
        token_types: (batch, tokens), 0 on the prefix, k on the k-th suffix.

    Returns:
        The positions, (batch, tokens) bool, and for each label in row-major order the index of its
        position among them, (labels,) int64.
    """
    index = torch.arange(labels.shape[1], device=labels.device)
    same_segment = token_types == F.pad(token_types[:, :-1], (1, 0), value=-1)
    prefix_end = (token_types > 0).int().argmax(dim=1, keepdim=True) - 1
    source = torch.where(same_segment, index - 1, prefix_end)
    row, column = torch.nonzero(labels != IGNORE_INDEX, as_tuple=True)
    positions = torch.zeros_like(labels, dtype=torch.bool)
    positions[row, source[row, column]] = True
    rank = positions.flatten().cumsum(0).view_as(positions) - 1
    return positions, rank[row, source[row, column]]


def token_losses(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the negative log-likelihood of each target: (n,) float32.

    Args:
        logits: (n, vocabulary).
        targets: (n,) int64.
        label_smoothing: Probability e of other tokens. As in big_vision the target gets 1 - e and
            each *other* token e / (vocabulary - 1); torch spreads e over all tokens.
    """
    log_probs = F.log_softmax(logits.float(), dim=-1)
    target_log_probs = log_probs.gather(-1, targets[:, None])[:, 0]
    if not label_smoothing:
        return -target_log_probs
    others = (log_probs.sum(-1) - target_log_probs) / (logits.shape[-1] - 1)
    return -((1 - label_smoothing) * target_log_probs + label_smoothing * others)


def apply_softcap(logits: Tensor, softcap: float | None) -> Tensor:
    """Return `softcap * tanh(logits / softcap)`, as in Gemma 2; None: the logits unchanged."""
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
) -> Tensor:
    """Return the negative log-likelihood of each target under a head of one weight: (n,) float32.

    Args:
        hidden: Hidden states, (n, width).
        weight: Weight of the head, (vocabulary, width).
        targets: (n,) int64.
        label_smoothing: As in `token_losses`.
        softcap: Soft-cap of the logits, or None.
    """
    losses: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, label_smoothing, softcap)  # type: ignore[no-untyped-call]
    return losses


def checkpointed_cross_entropy(
    head: Any, hidden: Tensor, targets: Tensor, label_smoothing: float, softcap: float | None
) -> Tensor:
    """Return the losses of `linear_cross_entropy` for a head with LoRA or quantized weights.

    The backward pass recomputes the logits of each chunk. `head` is a module with `out_features`;
    the other arguments are those of `linear_cross_entropy`.
    """

    def chunk_losses(hidden: Tensor, targets: Tensor) -> Tensor:
        return token_losses(apply_softcap(head(hidden).float(), softcap), targets, label_smoothing)

    losses = [
        checkpoint(chunk_losses, hidden[rows], targets[rows], use_reentrant=False)
        for rows in _chunks(hidden, vocab_size=head.out_features)
    ]
    return torch.cat(losses)


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes gradients in the forward pass, while a chunk's logits exist.

    This is possible because each loss depends on its own row only.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        label_smoothing: float,
        softcap: float | None,
    ) -> Tensor:
        losses = hidden.new_empty(len(hidden), dtype=torch.float32)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        needs_gradient = any(ctx.needs_input_grad[:2])
        for rows in _chunks(hidden, len(weight)):
            losses[rows], d_logits = _chunk_losses(
                hidden[rows], weight, targets[rows], label_smoothing, softcap, needs_gradient
            )
            if d_hidden is not None:
                d_hidden[rows] = d_logits.to(weight.dtype) @ weight
            del d_logits  # otherwise it would exist beside the logits of the next chunk
        ctx.settings = (label_smoothing, softcap)
        ctx.save_for_backward(hidden, weight, targets, d_hidden)
        return losses

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, d_hidden = ctx.saved_tensors
        label_smoothing, softcap = ctx.settings
        d_losses = grad_outputs[0][:, None]
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = torch.zeros_like(weight, dtype=torch.float32)
            for rows in _chunks(hidden, len(weight)):
                _, d_logits = _chunk_losses(
                    hidden[rows], weight, targets[rows], label_smoothing, softcap, True
                )
                d_logits.mul_(d_losses[rows])
                d_weight += d_logits.to(hidden.dtype).t() @ hidden[rows]
                del d_logits
            d_weight = d_weight.to(weight.dtype)
        if d_hidden is not None:
            d_hidden = (d_hidden * d_losses).to(hidden.dtype)
        return d_hidden, d_weight, None, None, None


def _chunks(hidden: Tensor, vocab_size: int) -> list[slice]:
    size = max(1, CHUNK_BYTES[hidden.device.type] // (4 * vocab_size))
    return [slice(start, start + size) for start in range(0, max(1, len(hidden)), size)]


def _chunk_losses(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    label_smoothing: float,
    softcap: float | None,
    needs_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Return the losses of a chunk and their gradient with respect to the head's output.

    The values are those of `token_losses`, written with logsumexp so that one copy of the logits
    suffices; without `needs_gradient` the second value is meaningless.
    """
    logits = F.linear(hidden, weight).float()
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)
    index, others = targets[:, None], label_smoothing / (len(weight) - 1)
    log_sum = logits.logsumexp(-1)
    target_logits = logits.gather(-1, index)[:, 0]
    losses = log_sum - (1 - label_smoothing - others) * target_logits
    if label_smoothing:
        losses -= others * logits.sum(-1)
    if not needs_gradient:
        return losses, logits
    slope = None if softcap is None else 1 - (logits / softcap).square_()
    gradient = logits.sub_(log_sum[:, None]).exp_()
    if label_smoothing:
        gradient -= others
    gradient.scatter_add_(-1, index, gradient.new_full(index.shape, label_smoothing + others - 1))
    return losses, gradient if slope is None else gradient.mul_(slope)
