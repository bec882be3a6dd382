"""What a step is predicted to take is what its tensors take."""

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
    ("dtype", "checkpointed"), [(Dtype.fp32, False), (Dtype.fp32, True), (Dtype.bf16, False)]
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
def test_the_peak_of_a_step_is_predicted_to_a_tenth(
    small: Callable[..., tuple[Local, MemoryContext]],
    family: str,
    adapter: AdapterConfig,
    dtype: Dtype,
    checkpointed: bool,
) -> None:
    model, setup = small(family, adapter, dtype, gradient_checkpointing=checkpointed)
    tokens = setup.model_shape.num_patches + 32
    batch = BatchShape(8, tokens, 8 * 16, 8)
    network = load_for_training(model, adapter)
    optimizer = prepare_for_training(network, setup.training)
    small_batch = random_batch(setup.model_shape, BatchShape(1, tokens, 16, 1), network.device)
    training_step(small_batch, network, setup.training, optimizer)  # makes the optimizer's state
    inputs = random_batch(setup.model_shape, batch, network.device)
    with LiveTensors() as live:
        training_step(inputs, network, setup.training, optimizer)
    assert peak_memory(setup, batch).step_bytes == pytest.approx(live.peak_bytes, rel=0.1)


def test_the_last_layer_is_never_recomputed_and_others_by_their_share() -> None:
    settings = TrainingConfig(gradient_checkpointing=True, gradient_checkpointing_ratio=0.5)
    chosen = [is_checkpointed(settings, number, 6) for number in range(6)]
    assert chosen == [False, True, False, True, False, False]
    assert not is_checkpointed(TrainingConfig(), 1, 6)
