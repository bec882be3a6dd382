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


def softcapped(logits: Tensor, cap: float | None) -> Tensor:
    """Bend logits into (-cap, cap), as Gemma 2 does."""
    return logits if cap is None else torch.tanh(logits / cap) * cap


def token_losses(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    smoothing: float = 0.0,
    cap: float | None = None,
) -> Tensor:
    """Negative log-likelihood of each target: hidden (n, width), targets (n,) -> (n,) float32.

    weight: (vocabulary, width) of the head. `smoothing` gives the truth 1 - e and each other token
    e / (vocabulary - 1), as big_vision does.
    """
    losses: Tensor = _TokenLosses.apply(hidden, weight, targets, smoothing, cap)  # type: ignore[no-untyped-call]
    return losses


def token_losses_through(
    head: Any, hidden: Tensor, targets: Tensor, smoothing: float, cap: float | None
) -> Tensor:
    """As `token_losses`, of a head that is more than a weight: with LoRA on it, or quantized."""

    def losses(rows: Tensor, wanted: Tensor) -> Tensor:
        log_probs = F.log_softmax(softcapped(head(rows).float(), cap), dim=-1)
        truth = log_probs.gather(-1, wanted[:, None])[:, 0]
        others = (log_probs.sum(-1) - truth) / (log_probs.shape[-1] - 1)
        return -((1 - smoothing) * truth + smoothing * others)

    made = [
        checkpoint(losses, hidden[rows], targets[rows], use_reentrant=False)
        for rows in _chunks(hidden, vocabulary=head.out_features)
    ]
    return torch.cat(made)


class _TokenLosses(torch.autograd.Function):
    """A loss depends on its own row only, so its gradient is made with it, before logits go."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        smoothing: float,
        cap: float | None,
    ) -> Tensor:
        losses = hidden.new_empty(len(hidden), dtype=torch.float32)
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for rows in _chunks(hidden, len(weight)):
            losses[rows], d_logits = _loss(
                hidden[rows], weight, targets[rows], smoothing, cap, any(ctx.needs_input_grad[:2])
            )
            if d_hidden is not None:
                d_hidden[rows] = d_logits.to(weight.dtype) @ weight
        ctx.settings = (smoothing, cap)
        ctx.save_for_backward(hidden, weight, targets, d_hidden)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets, d_hidden = ctx.saved_tensors
        smoothing, cap = ctx.settings
        from_above = gradients[0][:, None]
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = torch.zeros_like(weight, dtype=torch.float32)
            for rows in _chunks(hidden, len(weight)):
                _, d_logits = _loss(hidden[rows], weight, targets[rows], smoothing, cap, True)
                d_logits.mul_(from_above[rows])
                d_weight += d_logits.to(hidden.dtype).t() @ hidden[rows]
            d_weight = d_weight.to(weight.dtype)
        if d_hidden is not None:
            d_hidden = (d_hidden * from_above).to(hidden.dtype)
        return d_hidden, d_weight, None, None, None


def _chunks(hidden: Tensor, vocabulary: int) -> list[slice]:
    size = max(1, CHUNK_BYTES[hidden.device.type] // (4 * vocabulary))
    return [slice(start, start + size) for start in range(0, max(1, len(hidden)), size)]


def _loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    smoothing: float,
    cap: float | None,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Losses of a chunk, and their gradient with respect to the logits of the head."""
    logits = F.linear(hidden, weight).float()
    if cap is not None:
        logits.div_(cap).tanh_().mul_(cap)
    at, others = targets[:, None], smoothing / (len(weight) - 1)
    log_sum = logits.logsumexp(-1)
    truth = logits.gather(-1, at)[:, 0]
    losses = log_sum - (1 - smoothing - others) * truth
    if smoothing:
        losses -= others * logits.sum(-1)
    if not with_gradient:
        return losses, logits
    slope = None if cap is None else 1 - (logits / cap).square_()
    gradient = logits.sub_(log_sum[:, None]).exp_()
    if smoothing:
        gradient -= others
    gradient.scatter_add_(-1, at, gradient.new_full(at.shape, smoothing + others - 1))
    return losses, gradient if slope is None else gradient.mul_(slope)
