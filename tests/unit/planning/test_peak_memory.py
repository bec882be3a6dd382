"""The predicted peak memory equals that of the live tensors of a step."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from palitune.models import lm_head
from palitune.models.adapters.config import AdapterConfig, Full, Lora, Qlora
from palitune.models.config import Dtype, Local
from palitune.models.loading import load_for_training
from palitune.planning.activation_bytes import BatchShape
from palitune.planning.calibration import prepare_for_training, random_batch, training_step
from palitune.planning.peak_memory import (
    autocast_copy_bytes,
    is_checkpointed,
    logits_and_loss_bytes,
    peak_memory,
)
from palitune.planning.static_memory import MemoryContext
from palitune.training.config import TrainingConfig

from support.live_tensors import LiveTensors

ALL = ["language", "vision", "projector"]


@pytest.mark.parametrize(
    ("dtype", "checkpointing"), [(Dtype.fp32, False), (Dtype.fp32, True), (Dtype.bf16, False)]
)
@pytest.mark.parametrize(
    ("family", "adapter"),
    [
        ("paligemma", Lora(targets=ALL)),
        ("paligemma", Qlora()),
        ("paligemma2", Lora()),
        ("paligemma2", Lora(rank=2)),
        ("paligemma2", Full()),
    ],
)
def test_the_peak_of_a_step_is_predicted_to_ten_percent(
    small: Callable[..., tuple[Local, MemoryContext]],
    family: str,
    adapter: AdapterConfig,
    dtype: Dtype,
    checkpointing: bool,
) -> None:
    model, context = small(family, adapter, dtype, gradient_checkpointing=checkpointing)
    seq_len = context.model_shape.num_patches + 32
    batch = BatchShape(8, seq_len, 8 * 16, 8)
    network = load_for_training(model, adapter)
    optimizer = prepare_for_training(network, context.training)
    small_batch = random_batch(context.model_shape, BatchShape(1, seq_len, 16, 1), network.device)
    training_step(
        small_batch, network, context.training, optimizer
    )  # initializes the optimizer state
    inputs = random_batch(context.model_shape, batch, network.device)
    with LiveTensors() as live:
        training_step(inputs, network, context.training, optimizer)
    assert peak_memory(context, batch).step_bytes == pytest.approx(live.peak_bytes, rel=0.1)


@pytest.mark.parametrize("num_labels", [5, 8, 11, 16, 40])
@pytest.mark.parametrize("softcap", [None, 30.0])
def test_the_logits_of_one_chunk_exist_at_a_time(
    num_labels: int,
    softcap: float | None,
    small: Callable[..., tuple[Local, MemoryContext]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vocab_size, width = 50_000, 64
    monkeypatch.setitem(lm_head.CHUNK_BYTES, "cpu", 8 * 4 * vocab_size)
    _, context = small("paligemma2", Lora())
    model_shape = replace(
        context.model_shape, vocab_size=vocab_size, has_logit_softcap=softcap is not None
    )
    hidden = torch.randn(num_labels, width, requires_grad=True)
    weight, targets = torch.randn(vocab_size, width), torch.zeros(num_labels, dtype=torch.int64)
    with LiveTensors() as live:
        lm_head.linear_cross_entropy(hidden, weight, targets, 0.0, softcap).sum().backward()
    predicted = logits_and_loss_bytes(
        replace(context, model_shape=model_shape), BatchShape(1, 64, num_labels, 1)
    )
    assert predicted == pytest.approx(live.peak_bytes, rel=0.03)


def test_the_last_layer_is_never_checkpointed_and_others_by_the_ratio() -> None:
    settings = TrainingConfig(gradient_checkpointing=True, gradient_checkpointing_ratio=0.5)
    checkpointed = [is_checkpointed(settings, layer, 6) for layer in range(6)]
    assert checkpointed == [False, True, False, True, False, False]
    assert not is_checkpointed(TrainingConfig(), 1, 6)


def test_autocast_keeps_a_bf16_copy_of_each_trained_weight(
    small: Callable[..., tuple[Local, MemoryContext]],
) -> None:
    model, context = small("paligemma2", Full())
    assert autocast_copy_bytes(context) == 0
    network: Any = load_for_training(model, Full())
    network.autocast_dtype = torch.bfloat16
    weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
    copies: list[int] = []

    class NoteCopies(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if func is torch.ops.aten._to_copy.default and result.dtype is torch.bfloat16:
                is_weight = args[0].ndim == 2 and args[0].untyped_storage()._cdata in weights
                copies.extend([result.nbytes] * is_weight)
            return result

    seq_len = context.model_shape.num_patches + 9
    batch = random_batch(context.model_shape, BatchShape(1, seq_len, 5, 1), network.device)
    with NoteCopies():
        network(**batch)
    autocast = replace(context, precision=replace(context.precision, autocast=True))
    patches = network.model.vision_tower.embeddings.patch_embedding.weight
    # The patch embedding, one MB at real size, is no linear layer.
    assert autocast_copy_bytes(autocast) == sum(copies) - 2 * patches.numel()
