"""Settings for GPUs are rejected on a CPU; memory-saving settings change no gradient."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from palitune.data.collator import Batch, Collator
from palitune.data.training_set import TrainingSample
from palitune.errors import TrainingError
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.loading import load
from palitune.records import Example
from palitune.training import activation_memory
from palitune.training.activation_memory import (
    ActivationMemoryCallback,
    ActivationOffload,
    activation_offload_context,
    check_device,
    language_layers,
)
from palitune.training.config import Optimizer, TrainingConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            TrainingConfig(optimizer=Optimizer.paged_adamw_8bit),
            r"optimizer=paged_adamw_8bit .*=adamw\.$",
        ),
        (TrainingConfig(activation_offloading=True), r"activation_offloading=true.*=false\.$"),
        (TrainingConfig(compile=True), r"compile=true.*=false\.$"),
    ],
)
def test_settings_that_require_cuda_are_rejected_on_a_cpu(
    settings: TrainingConfig, message: str
) -> None:
    check_device(settings, torch.device("cuda"))
    with pytest.raises(TrainingError, match=message):
        check_device(settings, torch.device("cpu"))


def test_default_settings_are_accepted_on_a_cpu() -> None:
    check_device(TrainingConfig(), torch.device("cpu"))


@pytest.fixture
def network(tiny: Callable[[str], Path]) -> Any:
    return Lora(rank=4).apply_to(load(Local(path=str(tiny("paligemma2"))))).train()


def begin(network: Any, settings: TrainingConfig) -> None:
    ActivationMemoryCallback(settings).on_train_begin(None, None, None, model=network)


@pytest.mark.parametrize(
    ("ratio", "recomputed"), [(0.0, [False, False]), (0.5, [False, True]), (1.0, [True, True])]
)
def test_a_share_of_the_layers_is_recomputed(
    ratio: float, recomputed: list[bool], network: Any
) -> None:
    network.gradient_checkpointing_enable({"use_reentrant": False})
    begin(network, TrainingConfig(gradient_checkpointing=True, gradient_checkpointing_ratio=ratio))
    assert [layer.gradient_checkpointing for layer in language_layers(network)] == recomputed


def test_without_checkpointing_nothing_is_recomputed(network: Any) -> None:
    begin(network, TrainingConfig())
    assert not any(layer.gradient_checkpointing for layer in language_layers(network))


def test_every_layer_is_compiled(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    for layer in language_layers(network):
        monkeypatch.setattr(
            layer, "compile", lambda layer=layer, **options: compiled.append((layer, options))
        )
    begin(network, TrainingConfig(compile=True))
    assert [options for _, options in compiled] == [{"dynamic": True}] * 2


@pytest.fixture
def batch(tiny: Callable[[str], Path], examples: list[Example]) -> Batch:
    collator = Collator(AutoProcessor.from_pretrained(tiny("paligemma2")))
    return collator.collate_train(
        [TrainingSample(example, example.suffixes[0]) for example in examples]
    )


def gradients(network: Any, batch: Batch, **settings: bool) -> list[torch.Tensor]:
    network.zero_grad()
    with activation_offload_context(TrainingConfig(**settings), network):  # type: ignore[arg-type]
        loss = network(**batch).loss.mean()
    loss.backward()
    return [p.grad for p in network.parameters() if p.requires_grad]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_offloaded_activations_give_the_same_gradients(
    checkpointing: bool, network: Any, batch: Batch
) -> None:
    if checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    plain = gradients(network, batch)
    offloaded = gradients(network, batch, activation_offloading=True)
    assert all(map(torch.equal, plain, offloaded))


def test_no_weight_is_offloaded_and_each_storage_once(
    network: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {p.untyped_storage()._cdata for p in (*network.parameters(), *network.buffers())}
    saved: dict[int, int] = {}
    kept: list[torch.Tensor] = []

    def record(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept.append(tensor)  # an address is not used twice
            saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        network(**batch)
    copied: list[int] = []
    make_copy = activation_memory._HostCopy.__init__

    def counted(copy: Any, storage: torch.UntypedStorage) -> None:
        assert storage._cdata not in weights
        copied.append(storage.nbytes())
        make_copy(copy, storage)

    monkeypatch.setattr(activation_memory._HostCopy, "__init__", counted)
    offload = ActivationOffload(network)
    with offload:
        network(**batch)
    assert sum(copied) == sum(saved.values()) == offload.host_bytes
    assert len(copied) == len(saved)


def test_a_storage_that_changes_in_place_is_copied_again() -> None:
    module = torch.nn.Linear(3, 3)
    x = torch.randn(2, 3, requires_grad=True)
    with activation_offload_context(TrainingConfig(activation_offloading=True), module):
        y = module(x) * 2
        before = y.sin()  # saves y
        y.mul_(3)
        total = before.sum() + y.cos().sum()
    (gradient,) = torch.autograd.grad(total, x)
    value = (module(x) * 2).detach()
    d_y = value.cos() - 3 * (3 * value).sin()
    assert torch.allclose(gradient, 2 * d_y @ module.weight)


def test_a_storage_comes_back_once_while_it_is_in_use() -> None:
    copy = activation_memory._HostCopy(torch.arange(4.0).untyped_storage())
    in_use = torch.empty(0).set_(copy.on_device())
    assert copy.on_device().data_ptr() == in_use.data_ptr() != copy.data.data_ptr()
    del in_use
    assert copy.restored is not None
    assert copy.restored() is None
    assert copy.on_device().tolist() == torch.arange(4.0).untyped_storage().tolist()
