"""The automatic micro-batch is the largest that fits, and a divisor of the batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune.data.collator import Collator
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.loading import load, load_processor
from palitune.records import Example
from palitune.training import micro_batch_size
from palitune.training.config import AUTO, TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.micro_batch_size import (
    find_largest,
    resolve_micro_batch_size,
    with_default_micro_batch_size,
)


@pytest.fixture
def setup(tiny: Callable[[str], Path], examples: list[Example]) -> tuple[Any, TrainingData]:
    model = Local(path=str(tiny("paligemma2")))
    data = TrainingData(
        TrainingSet(examples, TargetSampling.sample, 0), Collator(load_processor(model))
    )
    return Lora().apply_to(load(model)), data


def auto(global_batch_size: int, **settings: Any) -> TrainingConfig:
    return TrainingConfig(global_batch_size=global_batch_size, micro_batch_size=AUTO, **settings)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_largest_micro_batch_that_fits_is_found_and_nothing_is_trained(
    checkpointing: bool, setup: tuple[Any, TrainingData], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, data = setup
    network.eval()
    monkeypatch.setattr(micro_batch_size, "_can_measure", lambda device: True)
    before = [parameter.clone() for parameter in network.parameters()]
    tried: list[int] = []

    def limited(module: Any, args: Any, kwargs: Any) -> None:
        tried.append(len(kwargs["input_ids"]))
        if tried[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    network.register_forward_pre_hook(limited, with_kwargs=True)
    settings = auto(12, gradient_checkpointing=checkpointing)
    resolved = resolve_micro_batch_size(settings, network, data)
    assert (resolved.global_batch_size, resolved.micro_batch_size) == (12, 3)
    assert tried == [12, 6, 4, 3, 3]
    assert all(map(torch.equal, before, network.parameters()))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network.training


def test_a_cpu_and_a_number_are_not_measured(setup: tuple[Any, TrainingData]) -> None:
    network, data = setup
    assert resolve_micro_batch_size(auto(16), network, data).micro_batch_size == 4
    assert resolve_micro_batch_size(auto(6), network, data).micro_batch_size == 3
    number = TrainingConfig(global_batch_size=8, micro_batch_size=8)
    assert resolve_micro_batch_size(number, network, data) is number
    assert with_default_micro_batch_size(auto(7)).micro_batch_size == 1


def test_other_errors_and_a_single_example_that_does_not_fit_are_raised() -> None:
    def fail(size: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        find_largest([2, 1], fail)

    def broken(size: int) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        find_largest([2, 1], broken)


@pytest.mark.parametrize("value", ["many", 0, 1.5, True])
def test_other_values_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=f"must be at least 1 or auto, got {value}"):
        TrainingConfig(micro_batch_size=value)
