"""What fits, fits: one row more does not."""

import pytest

from palitune.models.adapters.config import AdapterConfig, Full, Initialization, Lora, Qlora
from palitune.models.config import Device, Dtype, PaliGemma2
from palitune.planning.alternatives import (
    estimate_alternatives,
    find_max_micro_batch_size,
    make_memory_context,
    target_device,
    with_resolution,
)
from palitune.planning.flops import Gpu
from palitune.planning.model_shapes import ModelShape, build_model_shape
from palitune.planning.peak_memory import peak_memory
from palitune.planning.workload import Workload
from palitune.training.config import TrainingConfig

ROWS = Workload(64, 32, 64.0, 32.0, 1, None, None, "told")
MODEL = PaliGemma2()


@pytest.fixture(scope="module")
def paper() -> ModelShape:
    return build_model_shape(MODEL, Lora())


def test_the_largest_micro_batch_fits_and_one_more_does_not(paper: ModelShape) -> None:
    setup = make_memory_context(paper, MODEL, Lora(), TrainingConfig(), "cuda")
    limit = 24 * 2**30
    most = find_max_micro_batch_size(setup, ROWS, limit)
    assert peak_memory(setup, ROWS.longest_batch(setup.model_shape, most)).total_bytes <= limit
    assert peak_memory(setup, ROWS.longest_batch(setup.model_shape, most + 1)).total_bytes > limit
    assert find_max_micro_batch_size(setup, ROWS, 2**30) == 0


def test_precision_is_what_it_would_be_on_the_device(paper: ModelShape) -> None:
    for model, adapter, device, size in (
        (MODEL, Lora(), "cuda", 2),
        (MODEL, Lora(), "cpu", 4),
        (MODEL, Full(), "cuda", 4),
        (PaliGemma2(dtype=Dtype.fp32), Lora(), "cuda", 4),
    ):
        assert (
            make_memory_context(
                paper, model, adapter, TrainingConfig(), device
            ).precision.bytes_per_element
            == size
        )
    assert target_device(PaliGemma2(device=Device.cpu)) == "cpu"
    assert target_device(MODEL) == "cuda"


@pytest.mark.parametrize(
    ("adapter", "others"),
    [
        (Lora(), {"lora", "qlora"}),
        (Qlora(bits=8), {"lora", "qlora"}),
        (Lora(initialization=Initialization.pissa), {"lora"}),
        (Full(), {"full"}),
    ],
)
def test_neighbours_are_what_the_adapter_can_be(
    paper: ModelShape, adapter: AdapterConfig, others: set[str]
) -> None:
    plans = estimate_alternatives(
        paper, MODEL, adapter, TrainingConfig(), ROWS, Gpu(80, 989, 0.4, 2.5)
    )
    assert {plan.overrides.split()[0] for plan in plans} == {f"adapter={name}" for name in others}
    peaks = {plan.overrides: plan.peak.total_bytes for plan in plans}
    for words, total in peaks.items():
        if "checkpointing" in words:
            assert total < peaks[words.replace(" training.gradient_checkpointing=true", "")]


def test_a_model_for_larger_images_has_more_positions_only(paper: ModelShape) -> None:
    larger = PaliGemma2(resolution=448)
    assert with_resolution(paper, 448) == build_model_shape(larger, Lora())
