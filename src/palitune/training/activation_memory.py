"""Gradient checkpointing, activation offloading and torch.compile."""

import itertools
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.checkpoint import checkpoint
from transformers import TrainerCallback
from transformers.modeling_layers import GradientCheckpointingLayer

from palitune.errors import TrainingError
from palitune.models.paligemma import PaliGemmaPrefixModel
from palitune.training.config import Optimizer, TrainingConfig


def check_device(settings: TrainingConfig, device: torch.device) -> None:
    """Raise TrainingError for settings that require a CUDA GPU if the device is another one."""
    if device.type == "cuda":
        return
    for is_set, key, value, alternative in (
        (
            settings.optimizer is Optimizer.paged_adamw_8bit,
            "optimizer",
            "paged_adamw_8bit",
            "adamw",
        ),
        (settings.activation_offloading, "activation_offloading", "true", "false"),
        (settings.compile, "compile", "true", "false"),
    ):
        if is_set:
            raise TrainingError(
                f"training.{key}={value} requires a CUDA GPU, but this run uses the {device.type}. "
                f"Set training.{key}={alternative}."
            )


def activation_offload_context(
    settings: TrainingConfig, network: torch.nn.Module
) -> AbstractContextManager[Any]:
    """Return a context for the forward pass that offloads saved activations if so configured."""
    return ActivationOffload(network) if settings.activation_offloading else nullcontext()


class ActivationOffload(torch.autograd.graph.saved_tensors_hooks):
    """Keeps the activations that a forward pass saves in host memory until the backward pass.

    Weights and buffers of the network stay on their device: they are there in any case. A storage
    that several operations save is copied once, and comes back once while it is in use.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__(self._pack, self._unpack)
        tensors = itertools.chain(network.parameters(), network.buffers())
        self.resident = {tensor.untyped_storage()._cdata for tensor in tensors}
        self.copies: dict[tuple[int, int], _HostCopy] = {}
        """Copy of each storage by its address and version: operations may change it in place."""
        self.host_bytes = 0
        """Bytes of all copies of this forward pass."""

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.copies.clear()  # each is freed when the backward pass has used it

    def _pack(self, tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        if storage._cdata in self.resident:
            return tensor
        key = storage._cdata, tensor._version
        if key not in self.copies:
            self.copies[key] = _HostCopy(storage)
            self.host_bytes += storage.nbytes()
        view = tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset()
        return self.copies[key], view

    def _unpack(self, packed: Any) -> torch.Tensor:
        if isinstance(packed, torch.Tensor):
            return packed
        copy, (dtype, shape, stride, offset) = packed
        empty = torch.empty(0, dtype=dtype, device=copy.device)
        return empty.set_(copy.on_device(), offset, shape, stride)


class _HostCopy:
    """A copy of a storage in host memory, pinned so that it is copied asynchronously."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        # A weak reference keeps the address from being used for another storage.
        self.original = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        self.device = storage.device
        on_gpu = self.device.type == "cuda"
        source = torch.empty(0, dtype=torch.uint8, device=self.device).set_(storage)
        self.data = torch.empty(source.shape, dtype=torch.uint8, pin_memory=on_gpu)
        self.data.copy_(source, non_blocking=on_gpu)
        self.restored: weakref.ref[torch.UntypedStorage] | None = None

    def on_device(self) -> torch.UntypedStorage:
        """Return the storage on its device; the same one while an earlier result is in use."""
        storage = None if self.restored is None else self.restored()
        if storage is None:
            storage = self.data.to(self.device, non_blocking=True, copy=True).untyped_storage()
            self.restored = weakref.ref(storage)
        return storage


class ActivationMemoryCallback(TrainerCallback):  # type: ignore[misc]
    """Apply gradient checkpointing to a share of the language layers, and compile them."""

    def __init__(self, settings: TrainingConfig) -> None:
        self.settings = settings

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        layers = list(language_layers(kwargs["model"]))
        if self.settings.gradient_checkpointing:
            for index, layer in enumerate(layers):
                layer.gradient_checkpointing = _is_recomputed(index, self.settings)
        if self.settings.compile:
            for layer in layers:
                layer.compile(dynamic=True)


@contextmanager
def checkpointed_layers(network: Any, settings: TrainingConfig) -> Iterator[None]:
    """Recompute the layers that the training recomputes, also in evaluation mode."""
    if not settings.gradient_checkpointing:
        yield
        return
    layers = [
        layer
        for index, layer in enumerate(language_layers(network))
        if _is_recomputed(index, settings)
    ]
    before = [(layer.gradient_checkpointing, layer.training) for layer in layers]
    for layer in layers:
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        # A layer is recomputed in training mode only; its own modules keep their mode.
        layer.gradient_checkpointing = layer.training = True
    try:
        yield
    finally:
        for layer, (was_checkpointed, was_training) in zip(layers, before, strict=True):
            layer.gradient_checkpointing, layer.training = was_checkpointed, was_training


def _is_recomputed(index: int, settings: TrainingConfig) -> bool:
    ratio = settings.gradient_checkpointing_ratio
    return int((index + 1) * ratio) > int(index * ratio)


def language_layers(network: Any) -> Iterator[GradientCheckpointingLayer]:
    """Yield the decoder layers of a network inside any wrappers."""
    body = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixModel))
    yield from body.language_model.layers
