"""What is shared out among processes is what is frozen, if not in 8 bits; see test_launch, too."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from palitune.distributed.strategies import Fsdp
from palitune.errors import TrainingError
from palitune.models.adapters.config import AdapterConfig, Full, Lora, Qlora
from palitune.models.config import Local
from palitune.models.loading import load_for_training
from palitune.training.fsdp import FsdpShards


@pytest.mark.parametrize(
    ("adapter", "said"),
    [(Qlora(bits=8), "does not share out layers of 8 bits"), (Full(), "here all is trained")],
)
def test_what_cannot_be_shared_out_is_refused(
    adapter: AdapterConfig, said: str, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_for_training(Local(path=str(tiny("paligemma2"))), adapter)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=said):
        FsdpShards(network, Fsdp())


def test_a_process_alone_keeps_all(tiny: Callable[[str], Path]) -> None:
    network = load_for_training(Local(path=str(tiny("paligemma2"))), Lora())
    shards = FsdpShards(network, Fsdp())
    assert shards.layers == []
    assert shards.wrap_unsharded(lambda: 7)() == 7
    shards.remove_sharding()
    assert all(type(weight.data) is torch.Tensor for weight in network.parameters())
