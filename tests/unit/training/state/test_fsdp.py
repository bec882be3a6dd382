"""FSDP shards frozen layers except 8-bit ones; see also tests/cli/test_launch.py."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from palitune.distributed.strategies import Fsdp
from palitune.errors import TrainingError
from palitune.models.adapters.config import AdapterConfig, Full, Lora, Qlora
from palitune.models.config import Local
from palitune.models.loading import load_for_training
from palitune.training.state.fsdp import FsdpShards


@pytest.mark.parametrize(
    ("adapter", "message"),
    [(Qlora(bits=8), "does not support 8-bit layers"), (Full(), "all parameters are trained")],
)
def test_unsupported_adapters_are_rejected(
    adapter: AdapterConfig,
    message: str,
    tiny: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = load_for_training(Local(path=str(tiny("paligemma2"))), adapter)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=message):
        FsdpShards(network, Fsdp())


def test_a_single_process_shards_nothing(tiny: Callable[[str], Path]) -> None:
    network = load_for_training(Local(path=str(tiny("paligemma2"))), Lora())
    shards = FsdpShards(network, Fsdp())
    assert shards.layers == []
    assert shards.wrap_unsharded(lambda: 7)() == 7
    shards.remove_sharding()
    assert all(type(weight.data) is torch.Tensor for weight in network.parameters())
