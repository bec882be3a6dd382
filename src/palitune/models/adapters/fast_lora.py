"""LoRA layers with PEFT's results in fewer passes over their inputs and outputs.

PEFT scales and adds the update in separate passes, and casts the input to float32 if the base is in
16 bits. Here the second matrix product adds the update, in the precision of the base (as under
autocast). At real sizes this saves memory traffic in every adapted layer of every training step.
All other cases (dropout, DoRA, disabled, merged or several adapters) use PEFT's implementation.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import bnb
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

ForwardFn = Callable[..., Tensor]


def _fast_forward(layer: Any, fallback: ForwardFn, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Run a LoRA layer, with PEFT's forward pass as the fallback."""
    if args or kwargs or not _supports_fast_path(layer) or torch.is_autocast_enabled(x.device.type):
        return fallback(layer, x, *args, **kwargs)
    lora_a, lora_b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    base = layer.get_base_layer()
    rows = x.reshape(-1, x.shape[-1])
    output = base(rows)
    low_rank = F.linear(rows, lora_a.to(rows.dtype)).to(output.dtype)
    up = (lora_b * layer.scaling["default"]).to(output.dtype).t()
    # In place saves a copy, but the outputs of bitsandbytes layers must not be changed.
    in_place = type(base) is nn.Linear
    output = output.addmm_(low_rank, up) if in_place else torch.addmm(output, low_rank, up)
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
    fast.__base__: fast for fast in (FastLoraLinear, FastLoraLinear4bit, FastLoraLinear8bit)
}


def use_fast_lora(network: nn.Module) -> None:
    """Switch the network's LoRA layers to the fast classes, in place; weights and names stay."""
    for module in network.modules():
        if fast := _FAST_CLASSES.get(type(module)):
            module.__class__ = fast


def _supports_fast_path(layer: Any) -> bool:
    return (
        not layer.disable_adapters
        and not layer.merged
        and layer.active_adapters == ["default"]
        and not layer.lora_variant
        and (not layer.training or type(layer.lora_dropout["default"]) is nn.Identity)
    )
