"""Checks of which modules are adapted and what is trainable."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune.errors import ModelError
from palitune.models.adapters.config import Lora
from palitune.models.adapters.peft_layers import adapted_modules, check_adapted_modules
from palitune.models.config import Local
from palitune.models.loading import load_for_training

PROJECTOR = {"model.multi_modal_projector.linear"}


@pytest.fixture
def adapted(tiny: Callable[[str], Path]) -> Any:
    model = Local(path=str(tiny("paligemma")))
    return load_for_training(model, Lora(targets=["projector"]))


def test_adapted_modules_are_named_as_in_the_base_network(adapted: Any) -> None:
    assert adapted_modules(adapted) == PROJECTOR
    check_adapted_modules(adapted, PROJECTOR)


@pytest.mark.parametrize("expected", [set(), PROJECTOR | {"model.other"}])
def test_unexpected_adapted_modules_are_refused(adapted: Any, expected: set[str]) -> None:
    with pytest.raises(ModelError, match="1 modules are adapted although they should not be"):
        check_adapted_modules(adapted, expected)


def test_a_trainable_base_weight_is_refused(adapted: Any) -> None:
    adapted.get_input_embeddings().weight.requires_grad_(True)
    with pytest.raises(ModelError, match=r"embed_tokens\.weight must not be trainable"):
        check_adapted_modules(adapted, PROJECTOR)


def test_a_frozen_adapter_is_refused(adapted: Any) -> None:
    adapted.requires_grad_(False)
    with pytest.raises(ModelError, match=r"lora_A.* must not be frozen"):
        check_adapted_modules(adapted, PROJECTOR)
    check_adapted_modules(adapted, PROJECTOR, trainable=False)


def test_an_adapter_in_half_precision_is_refused(adapted: Any) -> None:
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    with pytest.raises(ModelError, match=r"must be float32, got torch\.bfloat16"):
        check_adapted_modules(adapted, PROJECTOR)
