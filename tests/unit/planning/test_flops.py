"""Operations of a step compared with a calculation by hand."""

import pytest

from palitune.models.adapters.config import Lora, Qlora
from palitune.models.config import PaliGemma2
from palitune.planning.activation_bytes import BatchShape
from palitune.planning.alternatives import make_memory_context, with_resolution
from palitune.planning.flops import (
    Gpu,
    Speed,
    dequantization_bytes,
    estimate_speed,
    micro_batch_flops,
)
from palitune.planning.model_shapes import ModelShape, build_model_shape
from palitune.planning.workload import Workload
from palitune.training.config import TrainingConfig


@pytest.fixture(scope="module")
def model_shape() -> ModelShape:
    return build_model_shape(PaliGemma2(), Lora())


ROWS = Workload(48, 16, 48.0, 16.0, 1, 160, 160, "assumed")


@pytest.mark.parametrize(
    ("resolution", "teraflop"),
    [(224, 11.3), (448, 42.3), (896, 202)],
)
def test_operations_of_a_lora_step_equal_the_calculation_by_hand(
    model_shape: ModelShape, resolution: int, teraflop: float
) -> None:
    # Vision tower, language model forward and backward, head at labels; 4 rows.
    model = PaliGemma2(resolution=resolution)
    context = make_memory_context(
        with_resolution(model_shape, resolution), model, Lora(), TrainingConfig(), "cuda"
    )
    assert micro_batch_flops(
        context, ROWS.mean_batch(context.model_shape, 4)
    ) / 1e12 == pytest.approx(teraflop, rel=0.06)


def test_checkpointing_and_quantization_cost_time_and_a_vision_feature_cache_saves_time(
    model_shape: ModelShape,
) -> None:
    model, gpu = PaliGemma2(), Gpu(80, 989, 0.5, 2.5)

    def speed(adapter: Lora, **settings: object) -> Speed:
        training = TrainingConfig(global_batch_size=16, micro_batch_size=4, **settings)  # type: ignore[arg-type]
        return estimate_speed(
            make_memory_context(model_shape, model, adapter, training, "cuda"), ROWS, gpu
        )

    plain = speed(Lora())
    assert plain.compute_seconds == pytest.approx(4 * 11.3 / 494.5, rel=0.06)
    recomputed = speed(Lora(), gradient_checkpointing=True)
    assert recomputed.compute_seconds == pytest.approx(1.45 * plain.compute_seconds, rel=0.05)
    assert recomputed.launch_seconds > 1.2 * plain.launch_seconds
    quantized = speed(Qlora())
    assert quantized.compute_seconds == plain.compute_seconds
    assert plain.traffic_seconds < quantized.traffic_seconds < 3 * plain.traffic_seconds
    cached = speed(Lora(), vision_feature_cache="somewhere")
    assert cached.compute_seconds < 0.95 * plain.compute_seconds
    assert cached.launch_seconds < plain.launch_seconds


def test_a_run_has_its_number_of_steps_and_dequantizes_in_every_pass(
    model_shape: ModelShape,
) -> None:
    model = PaliGemma2()
    context = make_memory_context(model_shape, model, Qlora(), TrainingConfig(epochs=2), "cuda")
    speed = estimate_speed(context, ROWS, Gpu(80, 989, 0.5, 2.5))
    assert speed.steps == 20
    assert speed.hours == pytest.approx(20 * speed.step_seconds / 3600)
    assert dequantization_bytes(context) == 2 * 2_024_275_968 * (0.5 + 2 * 2)
    assert micro_batch_flops(context, BatchShape(4, 304, 64, 4)) > 0
