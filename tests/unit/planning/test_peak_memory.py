"""The predicted peak memory equals that of the live tensors of a step."""

from collections.abc import Callable

import pytest

from palitune.models.adapters.config import AdapterConfig, Full, Lora, Qlora
from palitune.models.config import Dtype, Local
from palitune.models.loading import load_for_training
from palitune.planning.activation_bytes import BatchShape
from palitune.planning.calibration import prepare_for_training, random_batch, training_step
from palitune.planning.peak_memory import is_checkpointed, peak_memory
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


def test_the_last_layer_is_never_checkpointed_and_others_by_the_ratio() -> None:
    settings = TrainingConfig(gradient_checkpointing=True, gradient_checkpointing_ratio=0.5)
    checkpointed = [is_checkpointed(settings, layer, 6) for layer in range(6)]
    assert checkpointed == [False, True, False, True, False, False]
    assert not is_checkpointed(TrainingConfig(), 1, 6)
