"""Estimates of alternatives, and the largest micro-batch that fits."""

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

ROWS = Workload(64, 32, 64.0, 32.0, 1, None, None, "assumed")
MODEL = PaliGemma2()


@pytest.fixture(scope="module")
def model_shape() -> ModelShape:
    return build_model_shape(MODEL, Lora())


def test_the_largest_micro_batch_fits_and_one_more_does_not(model_shape: ModelShape) -> None:
    context = make_memory_context(model_shape, MODEL, Lora(), TrainingConfig(), "cuda")
    max_bytes = 24 * 2**30
    largest = find_max_micro_batch_size(context, ROWS, max_bytes)
    assert (
        peak_memory(context, ROWS.longest_batch(context.model_shape, largest)).total_bytes
        <= max_bytes
    )
    assert (
        peak_memory(context, ROWS.longest_batch(context.model_shape, largest + 1)).total_bytes
        > max_bytes
    )
    assert find_max_micro_batch_size(context, ROWS, 2**30) == 0


def test_the_automatic_dtype_is_resolved_for_the_device(model_shape: ModelShape) -> None:
    for model, adapter, device, size in (
        (MODEL, Lora(), "cuda", 2),
        (MODEL, Lora(), "cpu", 4),
        (MODEL, Full(), "cuda", 4),
        (PaliGemma2(dtype=Dtype.fp32), Lora(), "cuda", 4),
    ):
        assert (
            make_memory_context(
                model_shape, model, adapter, TrainingConfig(), device
            ).precision.bytes_per_element
            == size
        )
    assert target_device(PaliGemma2(device=Device.cpu)) == "cpu"
    assert target_device(MODEL) == "cuda"


@pytest.mark.parametrize(
    ("adapter", "variants"),
    [
        (Lora(), {"lora", "qlora"}),
        (Qlora(bits=8), {"lora", "qlora"}),
        (Lora(initialization=Initialization.pissa), {"lora"}),
        (Full(), {"full"}),
    ],
)
def test_alternatives_are_the_supported_variants_of_the_adapter(
    model_shape: ModelShape, adapter: AdapterConfig, variants: set[str]
) -> None:
    estimates = estimate_alternatives(
        model_shape, MODEL, adapter, TrainingConfig(), ROWS, Gpu(80, 989, 0.4, 2.5)
    )
    assert {estimate.overrides.split()[0] for estimate in estimates} == {
        f"adapter={name}" for name in variants
    }
    peaks = {estimate.overrides: estimate.peak.total_bytes for estimate in estimates}
    for overrides, total in peaks.items():
        if "checkpointing" in overrides:
            assert total < peaks[overrides.replace(" training.gradient_checkpointing=true", "")]


def test_another_resolution_changes_only_the_position_embeddings(model_shape: ModelShape) -> None:
    larger = PaliGemma2(resolution=448)
    assert with_resolution(model_shape, 448) == build_model_shape(larger, Lora())
