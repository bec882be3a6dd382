"""What is shared out among processes is what is frozen, if not in 8 bits; see test_launch, too."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from palitune.engines import Fsdp
from palitune.models.adapters import Adapter, Full, Lora, Qlora
from palitune.models.checkpoints import Local
from palitune.models.loading import load_trainable
from palitune.training.faults import TrainingError
from palitune.training.sharding import Shards


@pytest.mark.parametrize(
    ("adapter", "said"),
    [(Qlora(bits=8), "does not share out layers of 8 bits"), (Full(), "here all is trained")],
)
def test_what_cannot_be_shared_out_is_refused(
    adapter: Adapter, said: str, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_trainable(Local(path=str(tiny("paligemma2"))), adapter)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=said):
        Shards(network, Fsdp())


def test_a_process_alone_keeps_all(tiny: Callable[[str], Path]) -> None:
    network = load_trainable(Local(path=str(tiny("paligemma2"))), Lora())
    shards = Shards(network, Fsdp())
    assert shards.layers == []
    assert shards.around(lambda: 7)() == 7
    shards.end()
    assert all(type(weight.data) is torch.Tensor for weight in network.parameters())
