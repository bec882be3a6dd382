"""What fits, fits: one row more does not."""

import pytest

from palitune.models.adapters import Adapter, Full, Initialization, Lora, Qlora
from palitune.models.checkpoints import Device, Dtype, PaliGemma2
from palitune.planning.choices import (
    at_resolution,
    largest_micro_batch,
    neighbours,
    planned_device,
    set_up,
)
from palitune.planning.memory import peak
from palitune.planning.on_paper import Paper, put_on_paper
from palitune.planning.speed import Gpu
from palitune.planning.workload import Workload
from palitune.training.settings import Training

ROWS = Workload(64, 32, 64.0, 32.0, 1, None, None, "told")
MODEL = PaliGemma2()


@pytest.fixture(scope="module")
def paper() -> Paper:
    return put_on_paper(MODEL, Lora())


def test_the_largest_micro_batch_fits_and_one_more_does_not(paper: Paper) -> None:
    setup = set_up(paper, MODEL, Lora(), Training(), "cuda")
    limit = 24 * 2**30
    most = largest_micro_batch(setup, ROWS, limit)
    assert peak(setup, ROWS.longest(setup.paper, most)).total <= limit
    assert peak(setup, ROWS.longest(setup.paper, most + 1)).total > limit
    assert largest_micro_batch(setup, ROWS, 2**30) == 0


def test_precision_is_what_it_would_be_on_the_device(paper: Paper) -> None:
    for model, adapter, device, size in (
        (MODEL, Lora(), "cuda", 2),
        (MODEL, Lora(), "cpu", 4),
        (MODEL, Full(), "cuda", 4),
        (PaliGemma2(dtype=Dtype.fp32), Lora(), "cuda", 4),
    ):
        assert set_up(paper, model, adapter, Training(), device).precision.bytes == size
    assert planned_device(PaliGemma2(device=Device.cpu)) == "cpu"
    assert planned_device(MODEL) == "cuda"


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
    paper: Paper, adapter: Adapter, others: set[str]
) -> None:
    plans = neighbours(paper, MODEL, adapter, Training(), ROWS, Gpu(80, 989, 0.4, 2.5))
    assert {plan.words.split()[0] for plan in plans} == {f"adapter={name}" for name in others}
    peaks = {plan.words: plan.peak.total for plan in plans}
    for words, total in peaks.items():
        if "checkpointing" in words:
            assert total < peaks[words.replace(" training.gradient_checkpointing=true", "")]


def test_a_model_for_larger_images_has_more_positions_only(paper: Paper) -> None:
    larger = PaliGemma2(resolution=448)
    assert at_resolution(paper, 448) == put_on_paper(larger, Lora())
