"""RMS norms of Gemma whose weight is frozen: stock outputs, with a backward pass of few launches.

Autograd computes the gradient of a norm operation by operation, and saves the input in float32.
Here the gradient of the input is one formula, and the input is saved in its own precision. At real
sizes that is a third of the launches of a norm, of which a decoder layer of Gemma 2 has four, and
half of its saved bytes in 16 bits.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm


class _RMSNorm(torch.autograd.Function):
    """Normalize (..., width) by the root mean square and multiply by one plus the weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x_float = x.float()
        scale = 1.0 + weight.float()
        # As the stock norm computes them: (..., 1) each.
        mean_square = x_float.pow(2).mean(-1, keepdim=True) + eps
        rstd = torch.rsqrt(mean_square)
        ctx.save_for_backward(x, scale, mean_square, rstd)
        return torch.mul(x_float * rstd, scale, out=torch.empty_like(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor, None, None]:
        # With g = d_output * scale * rstd: d_x = g - x * mean(g * x) / mean_square.
        x, scale, mean_square, rstd = ctx.saved_tensors
        d_normalized = (d_output * scale).mul_(rstd)
        along_x = (d_normalized * x).sum(-1, keepdim=True).div_(mean_square)
        d_x = torch.empty_like(x)
        torch.addcmul(d_normalized, x, along_x, value=-1 / x.shape[-1], out=d_x)
        return d_x, None, None


class _FrozenNorm(nn.Module):
    """The forward pass of both classes."""

    def forward(self, x: Tensor) -> Tensor:
        # Compiled, the stock operations are one kernel in each direction.
        if self.weight.requires_grad or not x.requires_grad or torch.compiler.is_compiling():
            plain: Tensor = super().forward(x)
            return plain
        output: Tensor = _RMSNorm.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return output


class FrozenGemmaRMSNorm(_FrozenNorm, GemmaRMSNorm):  # type: ignore[misc]
    """Norm of Gemma 1."""


class FrozenGemma2RMSNorm(_FrozenNorm, Gemma2RMSNorm):  # type: ignore[misc]
    """Norm of Gemma 2."""


_FAST_CLASSES = {GemmaRMSNorm: FrozenGemmaRMSNorm, Gemma2RMSNorm: FrozenGemma2RMSNorm}


def use_frozen_norms(network: nn.Module) -> None:
    """Switch the network's norms to the fast classes, in place; weights and names stay.

    A norm whose weight is trained computes as before.
    """
    for module in network.modules():
        if fast := _FAST_CLASSES.get(type(module)):
            module.__class__ = fast
