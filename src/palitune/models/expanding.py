"""The weights of NF4 layers in the precision that they compute in; of small layers, kept so.

bitsandbytes expands a weight anew in every forward and backward pass, to keep it in 4 bits alone.
The small layers of the embedded model take longer to expand than to multiply with.
"""

from typing import Any

import torch
import torch.nn.functional as F
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit, Params4bit
from torch import Tensor, nn

MAX_CACHED_WEIGHTS = 1 << 16
"""Weights of a layer that is kept expanded, in at most 256 KiB; no released model has one."""


class CachedDequantLinear4bit(Linear4bit):  # type: ignore[misc]
    """An NF4 layer that keeps its weight expanded, too."""

    dequantized_cache: tuple[Tensor, Tensor] | None = None
    """The weight in NF4, and expanded."""

    def forward(self, x: Tensor) -> Tensor:
        if layer_compute_dtype(self) != x.dtype or torch.is_autocast_enabled(x.device.type):
            output: Tensor = super().forward(x)
            return output
        return F.linear(x, dequantize(self), self.bias)


def cache_dequantized(network: nn.Module) -> None:
    """Let the small NF4 layers of a network keep their weights expanded, in place."""
    layer: Any
    for layer in network.modules():
        if (
            type(layer) is Linear4bit
            and layer.in_features * layer.out_features <= MAX_CACHED_WEIGHTS
        ):
            layer.__class__ = CachedDequantLinear4bit


def layer_compute_dtype(layer: Linear4bit) -> torch.dtype | None:
    """In what a layer computes; None where its weight cannot be expanded to that at once."""
    state = layer.weight.quant_state if isinstance(layer.weight, Params4bit) else None
    dtype: torch.dtype | None = layer.compute_dtype
    return dtype if state and state.dtype == dtype else None


def dequantize(layer: Any) -> Tensor:
    """The weight of an NF4 layer, (outputs, inputs)."""
    if not isinstance(layer, CachedDequantLinear4bit):
        return _dequantize_weight(layer.weight)
    kept = layer.dequantized_cache
    if kept is None or kept[0] is not layer.weight or kept[1].device != layer.weight.device:
        kept = layer.dequantized_cache = layer.weight, _dequantize_weight(layer.weight)
    return kept[1]


def _dequantize_weight(weight: Params4bit) -> Tensor:
    with torch.no_grad():
        whole: Tensor = dequantize_4bit(weight.data, weight.quant_state)
    return whole
