"""DeepSpeed shares out what it can; that it trains as one process does is a law of steps."""

import deepspeed.ops
import pytest
import torch

from palitune.errors import TrainingError
from palitune.training import deepspeed as deepspeed_module
from palitune.training.config import Optimizer, TrainingConfig


def test_only_the_memory_of_adamw_is_shared_out() -> None:
    told = TrainingConfig(optimizer=Optimizer.adamw_8bit)
    with pytest.raises(TrainingError, match=r"not of adamw_8bit; use training\.optimizer=adamw"):
        deepspeed_module.configure(told, torch.device("cpu"))


def test_settings_of_deepspeed_that_accelerate_brings_along_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", "zero3.json")
    with pytest.raises(TrainingError, match="take deepspeed_config_file out"):
        deepspeed_module.configure(TrainingConfig(), torch.device("cpu"))


def test_nothing_is_compiled_for_processes_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(deepspeed.ops.__compatible_ops__, "deepspeed_shm_comm", True)
    deepspeed_module.configure(TrainingConfig(), torch.device("cpu"))
    assert not deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"]


@pytest.mark.parametrize(("told", "on"), [("", False), ("false", False), ("true", True)])
def test_accelerate_is_asked_whether_it_is_on(
    told: str, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", told)
    assert deepspeed_module.is_enabled() is on
