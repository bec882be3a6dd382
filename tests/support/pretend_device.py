"""A device that exists only in name, to find on a CPU what a GPU would dislike.

Tensors live on the CPU and report torch's "meta" device, the only other device whose kernels a CPU
build dispatches. While a `PretendDevice` is active, it counts every operation on them:

- launches: kernels. Views and allocations launch none.
- syncs: operations for whose result the host waits, such as `.item()` or a bool index.
- copies: tensors that are copied from the host to the device.
- mixes: operations on tensors of both devices, which fail on a GPU.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from palitune.models import lm_head

DEVICE = torch.device("meta")

# fmt: off
# Views, allocations and questions about a tensor.
_WITHOUT_LAUNCH = frozenset({
    "view", "_unsafe_view", "transpose", "t", "permute", "unsqueeze", "squeeze", "expand",
    "slice", "select", "split", "split_with_sizes", "detach", "alias", "as_strided",
    "chunk", "narrow", "unbind", "_reshape_alias", "lift_fresh", "diagonal", "view_as",
    "is_same_size", "sym_size", "sym_stride", "sym_numel", "unflatten", "empty",
    "empty_like", "new_empty", "empty_strided", "new_empty_strided", "resize_",
    "record_stream", "_local_scalar_dense",
})
# Their result, or its shape, depends on the values, so the host waits for them.
_SYNCS = frozenset({
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique2",
    "unique_dim", "unique_consecutive", "is_nonzero",
})
# fmt: on
_INDEXING = frozenset({"index", "index_put", "index_put_", "_index_put_impl_"})
_COPYING = frozenset({"_to_copy", "copy_"})


@dataclass
class DeviceCounts:
    """Operations by name and the line of the package that called them."""

    launches: Counter[str] = field(default_factory=Counter)
    syncs: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)
    mixes: Counter[str] = field(default_factory=Counter)

    def totals(self) -> dict[str, int]:
        """Return the number of each kind."""
        return {kind: counter.total() for kind, counter in vars(self).items()}


class PretendTensor(Tensor):
    """A tensor on the CPU that reports `DEVICE`."""

    values: Tensor
    counts: DeviceCounts

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values: Tensor, counts: DeviceCounts) -> "PretendTensor":
        made: PretendTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
        )
        made.values, made.counts = values, counts
        return made

    def __init__(self, values: Tensor, counts: DeviceCounts) -> None:
        """Do nothing: `__new__` sets the fields."""

    def __repr__(self) -> str:  # type: ignore[override]
        return f"PretendTensor({tuple(self.shape)}, {self.dtype})"

    def tolist(self) -> Any:
        self.counts.syncs[f"tolist, {_caller()}"] += 1
        return self.values.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if _is_composite(function):
            return function.decompose(*args, **kwargs)
        tensors = [x for x in tree_iter((args, kwargs)) if isinstance(x, PretendTensor)]
        return _dispatch(tensors[0].counts, function, args, kwargs)


class PretendDevice(TorchDispatchMode):
    """Makes `DEVICE` a device with values while it is entered, and counts what happens on it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = DeviceCounts()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if _is_composite(function):
            with self:
                return function.decompose(*args, **(kwargs or {}))
        return _dispatch(self.counts, function, args, kwargs or {})

    def tensor(self, values: Tensor) -> PretendTensor:
        """Return a tensor of these values on the device, without counting a copy."""
        return PretendTensor(values, self.counts)

    def move(self, network: torch.nn.Module) -> None:
        """Move parameters and buffers to the device, in place, without counting copies."""
        moved: dict[int, torch.nn.Parameter] = {}  # weights may be tied
        for module in network.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    if id(weight) not in moved:
                        moved[id(weight)] = torch.nn.Parameter(
                            self.tensor(weight.data), weight.requires_grad
                        )
                    module._parameters[name] = moved[id(weight)]
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = self.tensor(buffer)

    @contextmanager
    def active(self) -> Iterator[DeviceCounts]:
        """Enter the device with torch's functions that a dispatch mode does not see."""
        with (
            patch.dict(lm_head.CHUNK_BYTES, {DEVICE.type: lm_head.CHUNK_BYTES["cuda"]}),
            patch.object(torch, "tensor", self._make_tensor),
            patch.object(torch, "is_autocast_enabled", _is_autocast_enabled),
            patch.object(torch, "autocast", _Autocast),
            patch.object(torch.nn.functional, "scaled_dot_product_attention", self._attend),
            patch.object(PretendTensor, "new_tensor", _new_tensor),
            self,
        ):
            yield self.counts

    def _make_tensor(self, data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        values = _torch_tensor(data, *args, **kwargs)
        if device is None or torch.device(device) != DEVICE:
            return values
        self.counts.copies[f"torch.tensor, {_caller()}"] += 1
        return self.tensor(values)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        if not isinstance(query, PretendTensor):
            return _sdpa(query, key, value, *args, **kwargs)
        attended: Tensor = _OneKernelAttention.apply(query, key, value, args, kwargs)  # type: ignore[no-untyped-call]
        return attended


_torch_tensor = torch.tensor
_sdpa = torch.nn.functional.scaled_dot_product_attention
_autocast_is_enabled = torch.is_autocast_enabled


def _is_autocast_enabled(device_type: str = "cpu") -> bool:
    return _autocast_is_enabled("cpu" if device_type == DEVICE.type else device_type)


class _Autocast(torch.autocast):
    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)


def _new_tensor(like: PretendTensor, data: Any, dtype: Any = None) -> PretendTensor:
    like.counts.copies[f"new_tensor, {_caller()}"] += 1
    return PretendTensor(_torch_tensor(list(data), dtype=dtype or like.dtype), like.counts)


class _OneKernelAttention(torch.autograd.Function):
    """SDPA as one launch forward and one backward, as a GPU's fused kernels. Gradients are zero."""

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, args: Any, kwargs: Any) -> Tensor:
        ctx.save_for_backward(query, key, value)
        query.counts.launches["scaled_dot_product_attention"] += 1
        args, kwargs = tree_map(_on_cpu, (args, kwargs))
        attended = _sdpa(query.values, key.values, value.values, *args, **kwargs)
        return PretendTensor(attended, query.counts)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        saved = ctx.saved_tensors
        saved[0].counts.launches["scaled_dot_product_attention_backward"] += 1
        gradients = [PretendTensor(torch.zeros_like(t.values), t.counts) for t in saved]
        return *gradients, None, None


def _is_composite(function: Any) -> bool:
    """Whether the operator only calls others; in inference mode torch dispatches these too."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(
        function.name(), "CompositeImplicitAutograd"
    )


def _dispatch(counts: DeviceCounts, function: Any, args: Any, kwargs: Any) -> Any:
    name = function._schema.name.split("::")[-1]
    leaves = list(tree_iter((args, kwargs)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    on_device = [isinstance(tensor, PretendTensor) for tensor in tensors]
    device = kwargs.get("device")
    goes_to_device = any(on_device) if device is None else torch.device(device) == DEVICE
    if goes_to_device or any(on_device):
        _count(counts, name, args, tensors, on_device, goes_to_device)
    cpu_args, cpu_kwargs = tree_map(_on_cpu, (args, dict(kwargs)))
    output = function(*cpu_args, **cpu_kwargs)
    if function._schema.is_mutable and name.endswith("_") and isinstance(args[0], Tensor):
        return args[0]
    if "out" in kwargs:
        return kwargs["out"]
    if not goes_to_device:
        return output
    return tree_map(lambda x: PretendTensor(x, counts) if isinstance(x, Tensor) else x, output)


def _count(
    counts: DeviceCounts,
    name: str,
    args: Any,
    tensors: list[Tensor],
    on_device: list[bool],
    goes_to_device: bool,
) -> None:
    if name not in _WITHOUT_LAUNCH:
        counts.launches[name] += 1
    if name in _SYNCS:
        counts.syncs[f"{name}, {_caller()}"] += 1
    if name in _INDEXING and any(
        isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
    ):
        counts.syncs[f"{name} by a mask, {_caller()}"] += 1
    if name in _COPYING:
        if (any(on_device) and not goes_to_device) or (name == "copy_" and not on_device[0]):
            counts.syncs[f"copy to the host, {_caller()}"] += 1
        elif not on_device[-1]:
            counts.copies[f"{name}, {_caller()}"] += 1
        return
    for tensor, is_there in zip(tensors, on_device, strict=True):
        if any(on_device) and not is_there and tensor.dim():
            # An index is copied to the device by torch, with the host waiting.
            kind = counts.copies if name in _INDEXING else counts.mixes
            kind[f"{name} with {tuple(tensor.shape)} {tensor.dtype}, {_caller()}"] += 1


def _on_cpu(leaf: Any) -> Any:
    if isinstance(leaf, PretendTensor):
        return leaf.values
    return torch.device("cpu") if leaf == DEVICE and isinstance(leaf, torch.device) else leaf


def _caller() -> str:
    """Return the innermost line of the package, or of a library that it uses."""
    stack = traceback.extract_stack()
    for package in ("palitune", "transformers", "peft", "accelerate"):
        for frame in reversed(stack):
            if f"/{package}/" in frame.filename:
                return f"{frame.filename.rsplit(f'/{package}/', 1)[-1]}:{frame.lineno}"
    return "autograd"
