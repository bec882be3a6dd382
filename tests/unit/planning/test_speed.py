"""Operations of a step, against an account made by hand."""

import pytest

from palitune.models.adapters import Lora, Qlora
from palitune.models.checkpoints import PaliGemma2
from palitune.planning.activations import Batch
from palitune.planning.choices import at_resolution, set_up
from palitune.planning.on_paper import Paper, put_on_paper
from palitune.planning.speed import Gpu, dequantization, flops, speed
from palitune.planning.workload import Workload
from palitune.training.settings import Training


@pytest.fixture(scope="module")
def paper() -> Paper:
    return put_on_paper(PaliGemma2(), Lora())


ROWS = Workload(48, 16, 48.0, 16.0, 1, 160, 160, "told")


@pytest.mark.parametrize(
    ("resolution", "teraflop"),
    [(224, 11.3), (448, 42.3), (896, 202)],
)
def test_operations_of_a_lora_step_are_those_of_the_account(
    paper: Paper, resolution: int, teraflop: float
) -> None:
    # Vision, language model forward and back, head at labels: 2 n i o a product, 4 rows.
    model = PaliGemma2(resolution=resolution)
    setup = set_up(at_resolution(paper, resolution), model, Lora(), Training(), "cuda")
    assert flops(setup, ROWS.usual(setup.paper, 4)) / 1e12 == pytest.approx(teraflop, rel=0.06)


def test_recomputing_and_quantizing_cost_time_and_a_vision_cache_saves_some(
    paper: Paper,
) -> None:
    model, gpu = PaliGemma2(), Gpu(80, 989, 0.5, 2.5)

    def seconds(adapter: Lora, **settings: object) -> float:
        training = Training(batch_size=16, micro_batch_size=4, **settings)  # type: ignore[arg-type]
        return speed(set_up(paper, model, adapter, training, "cuda"), ROWS, gpu).step_seconds

    plain = seconds(Lora())
    assert plain == pytest.approx(4 * 11.3 / 494.5, rel=0.06)
    assert seconds(Lora(), gradient_checkpointing=True) == pytest.approx(1.45 * plain, rel=0.05)
    assert plain < seconds(Qlora()) < 1.5 * plain
    assert seconds(Lora(), vision_cache="somewhere") < 0.95 * plain


def test_a_run_takes_its_steps_and_quantized_weights_are_moved_in_every_pass(
    paper: Paper,
) -> None:
    model = PaliGemma2()
    setup = set_up(paper, model, Qlora(), Training(epochs=2), "cuda")
    told = speed(setup, ROWS, Gpu(80, 989, 0.5, 2.5))
    assert told.steps == 20
    assert told.hours == pytest.approx(20 * told.step_seconds / 3600)
    assert dequantization(setup) == 2 * 2_024_275_968 * (0.5 + 2 * 2)
    assert flops(setup, Batch(4, 304, 64, 4)) > 0
