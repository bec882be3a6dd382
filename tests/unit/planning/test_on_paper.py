"""What is read off a network without weights is what the real one has."""

from collections.abc import Callable

import pytest

from palitune.models.adapters import Adapter, Full, Lora, Qlora
from palitune.models.checkpoints import Local, PaliGemma, PaliGemma2
from palitune.models.loading import load_trainable
from palitune.planning.activations import Batch
from palitune.planning.calibration import stored
from palitune.planning.held import Setup, held
from palitune.planning.on_paper import put_on_paper


@pytest.mark.parametrize(
    ("model", "base", "trained"),
    [
        # Parameters as the model cards give them: 2.92, 3.03 and 27.7 billion.
        (PaliGemma(), 2_923_466_480, 19_611_648),
        (PaliGemma2(), 3_032_242_416, 20_766_720),
        (PaliGemma2(size="28b"), 27_650_487_024, 114_180_096),
    ],
)
def test_released_models_have_their_size(
    model: PaliGemma | PaliGemma2, base: int, trained: int
) -> None:
    paper = put_on_paper(model, Lora())
    assert sum(paper.parameters.values()) == base
    assert sum(size for _, size in paper.trained) == trained


@pytest.mark.parametrize("adapter", [Lora(), Qlora(), Qlora(bits=8), Full()])
def test_weights_are_predicted_to_a_percent(
    small: Callable[..., tuple[Local, Setup]], adapter: Adapter
) -> None:
    model, setup = small("paligemma2", adapter)
    network = load_trainable(model, adapter)
    parts = held(setup, Batch(1, 80, 16, 1))
    assert parts["base weights"] + parts["adapter"] == pytest.approx(stored(network), rel=0.01)
    trained = [weight.numel() for weight in network.parameters() if weight.requires_grad]
    assert [size for _, size in setup.paper.trained] == trained
