"""LoRA layers with PEFT's results in fewer passes over their inputs and outputs.

PEFT scales and adds the update in separate passes, and casts the input to float32 if the base is in
16 bits. Here the second matrix product adds the update, in the precision of the base (as under
autocast), and so does that of the input's gradient. At real sizes this saves memory traffic in
every adapted layer of every training step, and on a GPU launches.
A layer may have several adapters, of which one is active. All other cases (dropout, DoRA, disabled,
merged or several active adapters) use PEFT's implementation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora import bnb
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

ForwardFn = Callable[..., Tensor]
LoraWeights = tuple[Tensor, Tensor]
"""A, (rank, inputs), and the scaled B, (outputs, rank), in the precision of the base."""
CastWeights = dict[tuple[str, torch.dtype], LoraWeights]
"""Weights by adapter and precision."""


def _fast_forward(layer: Any, fallback: ForwardFn, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Run a LoRA layer, with PEFT's forward pass as the fallback."""
    if args or kwargs or not _supports_fast_path(layer) or torch.is_autocast_enabled(x.device.type):
        return fallback(layer, x, *args, **kwargs)
    base = layer.get_base_layer()
    rows = x.reshape(-1, x.shape[-1])
    output: Tensor
    if not torch.is_grad_enabled():
        output = base(rows)
        lora_a, lora_b = _cast_weights(layer, output.dtype)
        output.addmm_(F.linear(rows.to(output.dtype), lora_a), lora_b.t())
    else:
        lora_a, lora_b, scaling = _active_weights(layer)
        if type(base) is nn.Linear and not base.weight.requires_grad and base.bias is None:
            output = _LinearWithUpdate.apply(rows, base.weight, lora_a, lora_b, scaling)
        else:
            output = base(rows)
            if isinstance(layer, bnb.Linear8bitLt):
                output = output.clone()  # it may be a view, which autograd does not let change
            output = _Update.apply(  # type: ignore[no-untyped-call]
                output, rows, lora_a, lora_b, scaling
            )
    return output.view(*x.shape[:-1], output.shape[-1])


class _LinearWithUpdate(torch.autograd.Function):
    """A frozen linear layer with its update: (rows, outputs)."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, lora_a: Tensor, lora_b: Tensor, scaling: float
    ) -> Tensor:
        output = F.linear(rows, weight)
        _add_update(ctx, output, rows, lora_a, lora_b, scaling)
        ctx.weight = weight
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        d_output = grad_outputs[0]
        d_low_rank, d_a, d_b, cast_a = _weight_gradients(ctx, d_output)
        d_rows = None
        if ctx.needs_input_grad[0]:
            d_rows = torch.mm(d_output, ctx.weight).addmm_(d_low_rank, cast_a)
        return d_rows, None, d_a, d_b, None


class _Update(torch.autograd.Function):
    """Adds the update to the output of any base, in place: (rows, outputs)."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, rows: Tensor, lora_a: Tensor, lora_b: Tensor, scaling: float
    ) -> Tensor:
        _add_update(ctx, output, rows, lora_a, lora_b, scaling)
        ctx.mark_dirty(output)
        ctx.input_dtype = rows.dtype
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        d_output = grad_outputs[0]
        d_low_rank, d_a, d_b, cast_a = _weight_gradients(ctx, d_output)
        d_rows = None
        if ctx.needs_input_grad[1]:
            d_rows = torch.mm(d_low_rank, cast_a).to(ctx.input_dtype)
        return d_output, d_rows, d_a, d_b, None


def _add_update(
    ctx: Any, output: Tensor, rows: Tensor, lora_a: Tensor, lora_b: Tensor, scaling: float
) -> None:
    """Add the update to `output`, in place, and save what `_weight_gradients` needs."""
    cast_a, cast_b = _scaled_weights(lora_a, lora_b, scaling, output.dtype)
    low_rank = F.linear(rows.to(output.dtype), cast_a)
    output.addmm_(low_rank, cast_b.t())
    ctx.save_for_backward(rows, cast_a, cast_b, low_rank)
    ctx.scaling, ctx.dtypes = scaling, (lora_a.dtype, lora_b.dtype)


def _weight_gradients(ctx: Any, d_output: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the low-rank product, of A and of B, and A as it was used."""
    rows, cast_a, cast_b, low_rank = ctx.saved_tensors  # checkpointing allows one access
    dtype_a, dtype_b = ctx.dtypes
    d_low_rank = torch.mm(d_output, cast_b)
    d_a = torch.mm(d_low_rank.t(), rows.to(d_low_rank.dtype)).to(dtype_a)
    d_b = torch.mm(d_output.t(), low_rank).to(dtype_b).mul_(ctx.scaling)
    return d_low_rank, d_a, d_b, cast_a


def _scaled_weights(
    lora_a: Tensor, lora_b: Tensor, scaling: float, dtype: torch.dtype
) -> LoraWeights:
    # One launch scales and rounds.
    scaled_b = torch.mul(lora_b, scaling, out=lora_b.new_empty(lora_b.shape, dtype=dtype))
    return lora_a.to(dtype), scaled_b


def _active_weights(layer: Any) -> tuple[Tensor, Tensor, float]:
    """Return A, B and the scaling of the active adapter."""
    [name] = layer.active_adapters
    return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]


def _cast_weights(layer: Any, dtype: torch.dtype) -> LoraWeights:
    """Return the weights from the cache of `cached_lora_weights`, if it is active."""
    cache: CastWeights | None = layer.cast_weights
    key = layer.active_adapters[0], dtype
    if cache is not None and key in cache:
        return cache[key]
    weights = _scaled_weights(*_active_weights(layer), dtype)
    if cache is not None:
        cache[key] = weights
    return weights


@contextmanager
def cached_lora_weights(network: nn.Module) -> Iterator[None]:
    """Cast and scale the LoRA weights once inside; they and their scaling must not change."""
    layers: list[Any] = [m for m in network.modules() if type(m) in _FAST_CLASSES.values()]
    for layer in layers:
        layer.cast_weights = {}
    try:
        yield
    finally:
        for layer in layers:
            layer.cast_weights = None


class FastLoraLinear(Linear):  # type: ignore[misc]
    """LoRA on a linear layer."""

    cast_weights: CastWeights | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _fast_forward(self, Linear.forward, x, *args, **kwargs)


class FastLoraLinear4bit(bnb.Linear4bit):  # type: ignore[misc]
    """LoRA on an NF4 layer."""

    cast_weights: CastWeights | None = None

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return _fast_forward(self, bnb.Linear4bit.forward, x, *args, **kwargs)


class FastLoraLinear8bit(bnb.Linear8bitLt):  # type: ignore[misc]
    """LoRA on an int8 layer."""

    cast_weights: CastWeights | None = None

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
    if layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return False
    [name] = layer.active_adapters
    return (
        name in layer.lora_A
        and name not in layer.lora_variant
        and (not layer.training or type(layer.lora_dropout[name]) is nn.Identity)
    )
