"""FSDP shards frozen layers except 8-bit ones; see also tests/cli/test_launch.py."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from palitune.distributed.strategies import Fsdp
from palitune.errors import TrainingError
from palitune.models.adapters.config import AdapterConfig, Full, Lora, Qlora
from palitune.models.config import Local
from palitune.models.loading import load_for_training
from palitune.records import Example
from palitune.training.state.fsdp import FsdpShards

from support import fsdp_on_gpus
from support.train_all_suffixes import train_all


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


def test_sharded_layers_are_trained_on_several_gpus_as_without_sharding(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    base = tiny("paligemma2")
    run = {"base": base, "examples": examples[:4], "folder": tmp_path / "two", "launch": Fsdp()}
    (tmp_path / "run.pickle").write_bytes(pickle.dumps(run))
    command = [sys.executable, fsdp_on_gpus.__file__, str(tmp_path / "run.pickle")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    two_processes = torch.load(tmp_path / "two" / "weights.pt")
    for name, weight in train_all(base, examples[:4], 1, tmp_path / "one").items():
        assert (two_processes[name] - weight).norm() <= 1e-4 * weight.norm(), name
