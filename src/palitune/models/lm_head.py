"""The output head and its loss, a few positions at a time.

With 257,216 tokens the logits of one position take a megabyte in float32, and a loss holds several
copies. Here the logits of a few dozen positions exist at a time, in both passes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES = {"cpu": 32 << 20, "cuda": 256 << 20}
"""Of float32 logits held at a time: 32 positions of PaliGemma's vocabulary on a CPU, 260 on a GPU,
which reads the head's weight anew for every chunk and computes faster than it reads."""


def apply_softcap(logits: Tensor, softcap: float | None) -> Tensor:
    """Bend logits into (-cap, cap), as Gemma 2 does."""
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    label_smoothing: float = 0.0,
    softcap: float | None = None,
) -> Tensor:
    """Negative log-likelihood of each target: hidden (n, width), targets (n,) -> (n,) float32.

    weight: (vocabulary, width) of the head. `smoothing` gives the truth 1 - e and each other token
    e / (vocabulary - 1), as big_vision does.
    """
    losses: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, label_smoothing, softcap)  # type: ignore[no-untyped-call]
    return losses


def checkpointed_cross_entropy(
    head: Any, hidden: Tensor, targets: Tensor, label_smoothing: float, softcap: float | None
) -> Tensor:
    """As `token_losses`, of a head that is more than a weight: with LoRA on it, or quantized."""

    def losses(rows: Tensor, wanted: Tensor) -> Tensor:
        log_probs = F.log_softmax(apply_softcap(head(rows).float(), softcap), dim=-1)
        truth = log_probs.gather(-1, wanted[:, None])[:, 0]
        others = (log_probs.sum(-1) - truth) / (log_probs.shape[-1] - 1)
        return -((1 - label_smoothing) * truth + label_smoothing * others)

    made = [
        checkpoint(losses, hidden[rows], targets[rows], use_reentrant=False)
        for rows in _chunks(hidden, vocab_size=head.out_features)
    ]
    return torch.cat(made)


class _LinearCrossEntropy(torch.autograd.Function):
    """A loss depends on its own row only, so its gradient is made with it, before logits go."""

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
        for rows in _chunks(hidden, len(weight)):
            losses[rows], d_logits = _chunk_losses(
                hidden[rows],
                weight,
                targets[rows],
                label_smoothing,
                softcap,
                any(ctx.needs_input_grad[:2]),
            )
            if d_hidden is not None:
                d_hidden[rows] = d_logits.to(weight.dtype) @ weight
        ctx.settings = (label_smoothing, softcap)
        ctx.save_for_backward(hidden, weight, targets, d_hidden)
        return losses

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, d_hidden = ctx.saved_tensors
        smoothing, cap = ctx.settings
        from_above = grad_outputs[0][:, None]
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = torch.zeros_like(weight, dtype=torch.float32)
            for rows in _chunks(hidden, len(weight)):
                _, d_logits = _chunk_losses(
                    hidden[rows], weight, targets[rows], smoothing, cap, True
                )
                d_logits.mul_(from_above[rows])
                d_weight += d_logits.to(hidden.dtype).t() @ hidden[rows]
            d_weight = d_weight.to(weight.dtype)
        if d_hidden is not None:
            d_hidden = (d_hidden * from_above).to(hidden.dtype)
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
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Losses of a chunk, and their gradient with respect to the logits of the head."""
    logits = F.linear(hidden, weight).float()
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)
    at, others = targets[:, None], label_smoothing / (len(weight) - 1)
    log_sum = logits.logsumexp(-1)
    truth = logits.gather(-1, at)[:, 0]
    losses = log_sum - (1 - label_smoothing - others) * truth
    if label_smoothing:
        losses -= others * logits.sum(-1)
    if not with_gradient:
        return losses, logits
    slope = None if softcap is None else 1 - (logits / softcap).square_()
    gradient = logits.sub_(log_sum[:, None]).exp_()
    if label_smoothing:
        gradient -= others
    gradient.scatter_add_(-1, at, gradient.new_full(at.shape, label_smoothing + others - 1))
    return losses, gradient if slope is None else gradient.mul_(slope)
