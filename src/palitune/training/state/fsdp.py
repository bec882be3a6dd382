"""Sharding of the frozen layers over the processes of a training with torch's FSDP2.

Each process stores a shard of every layer and gathers the others when it computes the layer.
Trainable parameters are not sharded: optimizer, checkpoints and adapter are as without FSDP.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from bitsandbytes.nn import Linear4bit, Params4bit

from palitune.distributed import collectives
from palitune.distributed.strategies import Strategy
from palitune.errors import TrainingError
from palitune.models.paligemma import PaliGemmaPrefixModel

_log = logging.getLogger(__name__)

T = TypeVar("T")


class FsdpShards:
    """The sharded layers of a network; none in a run of one process or without `launch=fsdp`."""

    def __init__(self, network: Any, launch: Strategy) -> None:
        self.layers: list[Any] = []
        self._quantized_weights: list[tuple[Any, Any]] = []
        if not launch.shards_frozen_layers or collectives.world_size() == 1:
            return
        self.layers = _shardable_layers(network)
        _check_frozen_parameters(
            p for layer in self.layers for p in layer.parameters() if not p.requires_grad
        )
        self._view_quantized_as_float(
            next(p.dtype for p in network.parameters() if p.is_floating_point())
        )
        self._shard(network)

    def _view_quantized_as_float(self, dtype: torch.dtype) -> None:
        """Reinterpret the bytes of NF4 weights as floats, because FSDP shards only floats.

        FSDP replaces them by plain parameters; bitsandbytes then reads the scales from the layer's
        own `quant_state`.
        """
        for module in (module for layer in self.layers for module in layer.modules()):
            if isinstance(module, Linear4bit):
                weight = module.weight
                module.quant_state = weight.quant_state
                floats = weight.data.flatten().view(dtype).unsqueeze(1)
                module.weight = torch.nn.Parameter(floats, requires_grad=False)
                weight.data = torch.empty(0, dtype=torch.uint8, device=weight.device)
                self._quantized_weights.append((module, weight))

    def _restore_quantized(self) -> None:
        for module, weight in self._quantized_weights:
            weight.data = module.weight.data.flatten().view(torch.uint8).unsqueeze(1)
            module.weight = weight

    def _shard(self, network: Any) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor
        from torch.nn.parallel import DistributedDataParallel

        mesh = init_device_mesh(network.device.type, (collectives.world_size(),))
        for layer in self.layers:
            trainable = {p for p in layer.parameters() if p.requires_grad}
            fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=trainable)
        # DDP must neither broadcast nor reduce the frozen parameters.
        frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
        parallel: Any = DistributedDataParallel
        parallel._set_params_and_buffers_to_ignore_for_model(network, frozen)
        parameters = [parameter for layer in self.layers for parameter in layer.parameters()]
        sharded = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
        local_bytes = sum(parameter.to_local().nbytes for parameter in sharded)
        total_bytes = sum(parameter.nbytes for parameter in sharded)
        _log.info(
            "this process keeps %d of the %d bytes of the frozen layers", local_bytes, total_bytes
        )

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Gather all layers in every process, so that each can evaluate independently."""
        self._unshard()
        try:
            yield
        finally:
            for layer in self.layers:
                layer.set_reshard_after_forward(True)
                layer.reshard()

    def _unshard(self) -> None:
        for layer in self.layers:
            layer.set_reshard_after_forward(False)
            layer.unshard()

    def remove_sharding(self) -> None:
        """Restore the network as it was before sharding, in every process."""
        self._unshard()
        for module in (module for layer in self.layers for module in layer.modules()):
            # Otherwise FSDP would shard the layers again when the state of the network is saved.
            for hooks in (
                module._forward_pre_hooks,
                module._forward_hooks,
                module._state_dict_pre_hooks,
                module._load_state_dict_pre_hooks,
            ):
                hooks.clear()
        self._restore_quantized()

    def wrap_unsharded(self, function: Callable[[], T]) -> Callable[[], T]:
        """Wrap a function so that all layers are gathered while it runs."""

        def run() -> T:
            with self.unsharded():
                return function()

        return run


def is_sharded(network: Any) -> bool:
    """Return whether layers of a network are sharded."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in network.parameters())


def wrap_in_ddp(network: Any) -> torch.nn.parallel.DistributedDataParallel:
    """Wrap a network with sharded layers so that the gradients of the others are averaged.

    accelerate does so on CPUs, but refuses such a network on GPUs.
    """
    return torch.nn.parallel.DistributedDataParallel(
        network,
        device_ids=[network.device] if network.device.type == "cuda" else None,
        broadcast_buffers=False,
    )


def _check_frozen_parameters(frozen: Iterable[torch.nn.Parameter]) -> None:
    types = {type(parameter) for parameter in frozen}
    if not types:
        raise TrainingError(
            "launch=fsdp shards frozen layers, but all parameters are trained. Set adapter=lora or "
            "launch=deepspeed."
        )
    if types - {torch.nn.Parameter, Params4bit}:
        raise TrainingError(
            "launch=fsdp does not support 8-bit layers. Set adapter.bits=4 or launch=ddp."
        )


def _shardable_layers(network: Any) -> list[Any]:
    """Return all layers of both towers except the last language layer.

    Its submodules are called separately, which FSDP's hooks on the layer would miss.
    """
    body = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixModel))
    tower: Any = getattr(body.vision_tower, "vision_model", body.vision_tower)
    return [*tower.encoder.layers, *body.language_model.layers[:-1]]
