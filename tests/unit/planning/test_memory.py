"""What a step is predicted to take is what its tensors take."""

from collections.abc import Callable

import pytest

from palitune.models.adapters import Adapter, Full, Lora, Qlora
from palitune.models.checkpoints import Dtype, Local
from palitune.models.loading import load_trainable
from palitune.planning.activations import Batch
from palitune.planning.calibration import random_rows, ready, step_on
from palitune.planning.held import Setup
from palitune.planning.memory import is_checkpointed, peak
from palitune.training.settings import Training

from live_tensors import LiveTensors

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
    small: Callable[..., tuple[Local, Setup]],
    family: str,
    adapter: Adapter,
    dtype: Dtype,
    checkpointed: bool,
) -> None:
    model, setup = small(family, adapter, dtype, gradient_checkpointing=checkpointed)
    tokens = setup.paper.patches + 32
    batch = Batch(8, tokens, 8 * 16, 8)
    network = load_trainable(model, adapter)
    optimizer = ready(network, setup.training)
    small_batch = random_rows(setup.paper, Batch(1, tokens, 16, 1), network.device)
    step_on(small_batch, network, setup.training, optimizer)  # makes the optimizer's state
    inputs = random_rows(setup.paper, batch, network.device)
    with LiveTensors() as live:
        step_on(inputs, network, setup.training, optimizer)
    assert peak(setup, batch).step == pytest.approx(live.most, rel=0.1)


def test_the_last_layer_is_never_recomputed_and_others_by_their_share() -> None:
    settings = Training(gradient_checkpointing=True, checkpointed_share=0.5)
    chosen = [is_checkpointed(settings, number, 6) for number in range(6)]
    assert chosen == [False, True, False, True, False, False]
    assert not is_checkpointed(Training(), 1, 6)
