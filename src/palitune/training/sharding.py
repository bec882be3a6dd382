"""The frozen layers of a network, shared out among the processes of a training by torch's FSDP2.

Each process keeps a part of every layer and fetches the others' parts where it computes with it.
What is trained stays whole everywhere, so that optimizer, checkpoints and adapter are as ever.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from palitune import processes
from palitune.models.prefix_lm import PrefixModel
from palitune.training.faults import TrainingError
from palitune.training.settings import Training

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Shards:
    """The layers that are shared out; none where one process trains or none are asked for."""

    def __init__(self, network: Any, settings: Training) -> None:
        self.layers: list[Any] = []
        if not settings.sharded or processes.count() == 1:
            return
        layers = _layers(network)
        frozen = {p for layer in layers for p in layer.parameters() if not p.requires_grad}
        if any(type(parameter) is not torch.nn.Parameter for parameter in frozen):
            raise TrainingError(
                "training.sharded does not share out quantized layers, which are small already; "
                "say training.sharded=false, or adapter=lora"
            )
        if not frozen:
            raise TrainingError(
                "training.sharded shares out what is frozen, and here all is trained; say "
                "training.sharded=false, or adapter=lora"
            )
        self.layers = layers
        self._share_out(network)

    def _share_out(self, network: Any) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor
        from torch.nn.parallel import DistributedDataParallel

        mesh = init_device_mesh(network.device.type, (processes.count(),))
        for layer in self.layers:
            trained = {p for p in layer.parameters() if p.requires_grad}
            fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=trained)
        # Where data-parallel training looks for what it need not keep equal among processes.
        frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
        parallel: Any = DistributedDataParallel
        parallel._set_params_and_buffers_to_ignore_for_model(network, frozen)
        shared = [parameter for layer in self.layers for parameter in layer.parameters()]
        share = sum(p.to_local().numel() for p in shared if isinstance(p, DTensor))
        whole = sum(p.numel() for p in shared if isinstance(p, DTensor))
        _log.info("this process keeps %d of the %d frozen weights of its layers", share, whole)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Have every process hold all layers in here, so that each can do work of its own."""
        self._gather()
        try:
            yield
        finally:
            for layer in self.layers:
                layer.set_reshard_after_forward(True)
                layer.reshard()

    def _gather(self) -> None:
        for layer in self.layers:
            layer.set_reshard_after_forward(False)
            layer.unshard()

    def end(self) -> None:
        """Leave a network that every process holds whole, as if it had never been shared out."""
        self._gather()
        for module in (module for layer in self.layers for module in layer.modules()):
            # Else FSDP would share the layers out again whenever the network's state is saved.
            for hooks in (
                module._forward_pre_hooks,
                module._forward_hooks,
                module._state_dict_pre_hooks,
                module._load_state_dict_pre_hooks,
            ):
                hooks.clear()

    def around(self, work: Callable[[], T]) -> Callable[[], T]:
        """Return work that is done with all layers gathered."""

        def whole() -> T:
            with self.gathered():
                return work()

        return whole


def _layers(network: Any) -> list[Any]:
    """The layers of both towers but for the last one of all: of that only parts are called."""
    body = next(module for module in network.modules() if isinstance(module, PrefixModel))
    tower: Any = getattr(body.vision_tower, "vision_model", body.vision_tower)
    return [*tower.encoder.layers, *body.language_model.layers[:-1]]
