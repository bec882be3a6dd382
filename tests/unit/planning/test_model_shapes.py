"""The shape of a network without weights equals that of the real network."""

from collections.abc import Callable

import pytest

from palitune.models.adapters.config import AdapterConfig, Full, Lora, Qlora
from palitune.models.config import Local, PaliGemma, PaliGemma2
from palitune.models.loading import load_for_training
from palitune.planning.activation_bytes import BatchShape
from palitune.planning.calibration import parameter_bytes
from palitune.planning.model_shapes import build_model_shape
from palitune.planning.static_memory import MemoryContext, static_bytes


@pytest.mark.parametrize(
    ("model", "base", "trained"),
    [
        # Parameters as the model cards give them: 2.92, 3.03 and 27.7 billion.
        (PaliGemma(), 2_923_466_480, 19_611_648),
        (PaliGemma2(), 3_032_242_416, 20_766_720),
        (PaliGemma2(size="28b"), 27_650_487_024, 114_180_096),
    ],
)
def test_released_models_have_their_published_size(
    model: PaliGemma | PaliGemma2, base: int, trained: int
) -> None:
    model_shape = build_model_shape(model, Lora())
    assert sum(model_shape.parameter_counts.values()) == base
    assert sum(size for _, size in model_shape.trainable_tensors) == trained


@pytest.mark.parametrize("adapter", [Lora(), Qlora(), Qlora(bits=8), Full()])
def test_weight_bytes_are_predicted_to_one_percent(
    small: Callable[..., tuple[Local, MemoryContext]], adapter: AdapterConfig
) -> None:
    model, context = small("paligemma2", adapter)
    network = load_for_training(model, adapter)
    breakdown = static_bytes(context, BatchShape(1, 80, 16, 1))
    assert breakdown["base weights"] + breakdown["adapter"] == pytest.approx(
        parameter_bytes(network), rel=0.01
    )
    trained = [weight.numel() for weight in network.parameters() if weight.requires_grad]
    assert [size for _, size in context.model_shape.trainable_tensors] == trained
