"""Launches equal those that were counted, and bound the step of a small micro-batch."""

from dataclasses import replace

import pytest

from palitune.models.adapters.config import Lora
from palitune.models.config import ModelConfig, PaliGemma, PaliGemma2
from palitune.planning.activation_bytes import BatchShape
from palitune.planning.alternatives import make_memory_context, with_resolution
from palitune.planning.flops import estimate_speed
from palitune.planning.gpus import planned_gpu
from palitune.planning.model_shapes import build_model_shape
from palitune.planning.static_memory import MemoryContext
from palitune.planning.step_time import micro_batch_launches
from palitune.planning.workload import Workload
from palitune.training.config import TrainingConfig

ROWS = Workload(48, 16, 48.0, 16.0, 1, 160, 160, "assumed")


def context(model: ModelConfig, resolution: int = 224, **settings: object) -> MemoryContext:
    training = TrainingConfig(micro_batch_size=1, **settings)  # type: ignore[arg-type]
    shape = with_resolution(build_model_shape(model, Lora()), resolution)
    return make_memory_context(shape, model, Lora(), training, "cuda")


@pytest.mark.parametrize(
    ("run", "tokens", "counted"),
    [
        (context(PaliGemma2()), 304, 9657),
        (context(PaliGemma2(), gradient_checkpointing=True), 304, 13109),
        (context(PaliGemma2(), 448), 1072, 13782),
        (context(PaliGemma()), 304, 3943),
    ],
)
def test_launches_equal_the_counted_ones_to_ten_percent(
    run: MemoryContext, tokens: int, counted: int
) -> None:
    assert micro_batch_launches(run, BatchShape(1, tokens, 16, 1)) == pytest.approx(
        counted, rel=0.1
    )


def test_a_micro_batch_of_one_is_bound_by_launches_and_a_slow_card_by_its_products() -> None:
    run = context(PaliGemma2())
    h100 = estimate_speed(run, ROWS, planned_gpu("H100", None, None, None, 0.4))
    assert h100.step_seconds == h100.launch_seconds > h100.compute_seconds + h100.traffic_seconds
    assert h100.samples_per_second < 25
    t4 = estimate_speed(run, ROWS, planned_gpu("T4", None, None, None, 0.4))
    assert t4.step_seconds == t4.compute_seconds + t4.traffic_seconds > t4.launch_seconds


def test_offloading_takes_time_and_host_memory() -> None:
    gpu = planned_gpu("4090", None, None, None, 0.4)
    plain = context(PaliGemma2())
    training = replace(plain.training, activation_offloading=True)
    offloading = replace(plain, training=training)
    slower = estimate_speed(offloading, ROWS, gpu).traffic_seconds
    assert slower > 1.5 * estimate_speed(plain, ROWS, gpu).traffic_seconds
