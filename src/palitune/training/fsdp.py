"""The frozen layers of a network, shared out among the processes of a training by torch's FSDP2.

Each process keeps a part of every layer and fetches the others' parts where it computes with it.
What is trained stays whole everywhere, so that optimizer, checkpoints and adapter are as ever.
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
    """The layers that are shared out; none where one process trains or none are asked for."""

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
        """Call the bytes of NF4 weights floats, which are all that FSDP shares out.

        It makes plain parameters of them; a layer of bitsandbytes then takes the scales from its
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
            trained = {p for p in layer.parameters() if p.requires_grad}
            fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=trained)
        # Where data-parallel training looks for what it need not keep equal among processes.
        frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
        parallel: Any = DistributedDataParallel
        parallel._set_params_and_buffers_to_ignore_for_model(network, frozen)
        shared = [parameter for layer in self.layers for parameter in layer.parameters()]
        share = sum(p.to_local().nbytes for p in shared if isinstance(p, DTensor))
        whole = sum(p.nbytes for p in shared if isinstance(p, DTensor))
        _log.info("this process keeps %d of the %d bytes of the frozen layers", share, whole)

    @contextmanager
    def unsharded(self) -> Iterator[None]:
        """Have every process hold all layers in here, so that each can do work of its own."""
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
        """Leave a network that every process holds whole, as if it had never been shared out."""
        self._unshard()
        for module in (module for layer in self.layers for module in layer.modules()):
            # Else FSDP would share the layers out again whenever the network's state is saved.
            for hooks in (
                module._forward_pre_hooks,
                module._forward_hooks,
                module._state_dict_pre_hooks,
                module._load_state_dict_pre_hooks,
            ):
                hooks.clear()
        self._restore_quantized()

    def wrap_unsharded(self, function: Callable[[], T]) -> Callable[[], T]:
        """Return work that is done with all layers gathered."""

        def whole() -> T:
            with self.unsharded():
                return function()

        return whole


def _check_frozen_parameters(frozen: Iterable[torch.nn.Parameter]) -> None:
    kinds = {type(parameter) for parameter in frozen}
    if not kinds:
        raise TrainingError(
            "launch=fsdp shares out what is frozen, and here all is trained; say adapter=lora, or "
            "launch=deepspeed"
        )
    if kinds - {torch.nn.Parameter, Params4bit}:
        raise TrainingError(
            "launch=fsdp does not share out layers of 8 bits; say adapter.bits=4, or launch=ddp"
        )


def _shardable_layers(network: Any) -> list[Any]:
    """The layers of both towers but for the last one of all: of that only parts are called."""
    body = next(module for module in network.modules() if isinstance(module, PaliGemmaPrefixModel))
    tower: Any = getattr(body.vision_tower, "vision_model", body.vision_tower)
    return [*tower.encoder.layers, *body.language_model.layers[:-1]]
