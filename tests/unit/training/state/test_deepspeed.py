"""Settings that DeepSpeed does not support are rejected; see also test_step_laws.py."""

import deepspeed.ops
import pytest
import torch

from palitune.errors import TrainingError
from palitune.training.config import Optimizer, TrainingConfig
from palitune.training.state import deepspeed as deepspeed_module


def test_only_adamw_is_supported() -> None:
    settings = TrainingConfig(optimizer=Optimizer.adamw_8bit)
    with pytest.raises(TrainingError, match=r"got adamw_8bit\. Set training\.optimizer=adamw\."):
        deepspeed_module.configure(settings, torch.device("cpu"))


def test_a_deepspeed_configuration_of_accelerate_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", "zero3.json")
    with pytest.raises(TrainingError, match="Remove deepspeed_config_file"):
        deepspeed_module.configure(TrainingConfig(), torch.device("cpu"))


def test_no_collectives_are_compiled_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(deepspeed.ops.__compatible_ops__, "deepspeed_shm_comm", True)
    deepspeed_module.configure(TrainingConfig(), torch.device("cpu"))
    assert not deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"]


@pytest.mark.parametrize(("value", "enabled"), [("", False), ("false", False), ("true", True)])
def test_it_is_enabled_by_the_environment_variable_of_accelerate(
    value: str, enabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", value)
    assert deepspeed_module.is_enabled() is enabled
