"""LoRA layers with the same result in fewer passes over their input and output.

PEFT scales and adds a layer's update in passes of their own, and casts its input to float32 where
the base is in 16 bits. Here the update is added by the matrix product itself, in the precision of
the base (as under autocast), or folded into the weight where the weight is so small that this is
cheaper. Whatever PEFT can do besides (dropout, DoRA, switched-off or merged adapters, adapters
side by side) still goes its way.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora import bnb
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from palitune.models.expanding import dequantize, layer_compute_dtype

ForwardFn = Callable[..., Tensor]


def _fast_forward(layer: Any, fallback: ForwardFn, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Run a LoRA layer leanly where it has the one adapter `default` and nothing else to do."""
    if args or kwargs or not _supports_fast_path(layer) or torch.is_autocast_enabled(x.device.type):
        return fallback(layer, x, *args, **kwargs)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    scale: float = layer.scaling["default"]
    base = layer.get_base_layer()
    rows = x.reshape(-1, x.shape[-1])
    if _merging_is_cheaper(base, down, len(rows)):
        return F.linear(x, torch.addmm(_dequantized_weight(base), up, down, alpha=scale), base.bias)
    output = base(rows)
    narrow = F.linear(rows, down.to(rows.dtype)).to(output.dtype)
    wide = (up * scale).to(output.dtype).t()
    # Out of place it copies its first operand, which bitsandbytes' layers want left alone.
    in_place = type(base) is nn.Linear
    output = output.addmm_(narrow, wide) if in_place else torch.addmm(output, narrow, wide)
    return output.view(*x.shape[:-1], output.shape[-1])


class FastLoraLinear(Linear):  # type: ignore[misc]
    """LoRA on a linear layer."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _fast_forward(self, Linear.forward, x, *args, **kwargs)


class FastLoraLinear4bit(bnb.Linear4bit):  # type: ignore[misc]
    """LoRA on an NF4 layer."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _fast_forward(self, bnb.Linear4bit.forward, x, *args, **kwargs)


class FastLoraLinear8bit(bnb.Linear8bitLt):  # type: ignore[misc]
    """LoRA on an int8 layer."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _fast_forward(self, bnb.Linear8bitLt.forward, x, *args, **kwargs)


_FAST_CLASSES = {
    lean.__base__: lean for lean in (FastLoraLinear, FastLoraLinear4bit, FastLoraLinear8bit)
}


def use_fast_lora(network: nn.Module) -> None:
    """Let the network's LoRA layers run leanly, in place; their weights and names stay."""
    for module in network.modules():
        if lean := _FAST_CLASSES.get(type(module)):
            module.__class__ = lean


def _supports_fast_path(layer: Any) -> bool:
    return (
        not layer.disable_adapters
        and not layer.merged
        and layer.active_adapters == ["default"]
        and not layer.lora_variant
        and (not layer.training or type(layer.lora_dropout["default"]) is nn.Identity)
    )


def _merging_is_cheaper(base: Any, lora_a: Tensor, num_rows: int) -> bool:
    """Tell whether the product of both factors costs less than their two passes over the rows.

    Without gradients: rank * inputs * outputs multiplications once, and a weight to write, against
    rank * (inputs + outputs) per row.

    Per row, forward and backward: 3 * rank * (inputs + outputs) multiplications for the factors,
    inputs * outputs for the gradient of a folded weight; the factors' narrow products run slower,
    and a step of the embedded model is fastest with a factor of two.
    """
    if _compute_dtype(base) != lora_a.dtype:
        return False
    outputs, inputs = base.out_features, base.in_features
    many = num_rows * (inputs + outputs) >= 2 * inputs * outputs
    if many and type(base) is nn.Linear and not torch.is_grad_enabled():
        return True
    cheaper: bool = 6 * lora_a.shape[0] * (inputs + outputs) >= inputs * outputs
    return cheaper


def _compute_dtype(base: Any) -> torch.dtype | None:
    """In what a layer computes with its whole weight; None where that is not to be had."""
    if type(base) is nn.Linear:
        dtype: torch.dtype = base.weight.dtype
        return dtype
    return layer_compute_dtype(base) if isinstance(base, Linear4bit) else None


def _dequantized_weight(base: Any) -> Tensor:
    """The whole weight of a layer, (outputs, inputs): expanded where it is in NF4."""
    return base.weight if type(base) is nn.Linear else dequantize(base)
