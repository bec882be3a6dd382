"""Cards by name, and the usual card for a size of memory."""

import pytest

from palitune.errors import DataError
from palitune.planning.gpus import CARDS, find_card, planned_gpu


@pytest.mark.parametrize(
    ("name", "memory", "card"),
    [
        ("4090", None, "4090"),
        ("RTX 4090", None, "4090"),
        ("t4", None, "T4"),
        ("a100-40", None, "A100-40"),
        ("H200", 24.0, "H200"),
        (None, None, "H100"),
        (None, 10.0, "T4"),
        (None, 24.0, "4090"),
        (None, 40.0, "A100-40"),
        (None, 80.0, "H100"),
        (None, 141.0, "H200"),
    ],
)
def test_a_card_is_chosen_by_name_or_by_memory(
    name: str | None, memory: float | None, card: str
) -> None:
    assert find_card(name, memory) is CARDS[card]


def test_a_card_of_24_gib_is_not_as_fast_as_an_h100_and_values_override_the_table() -> None:
    gpu = planned_gpu(None, 24.0, None, None, 0.4)
    assert (gpu.name, gpu.memory, gpu.tflops, gpu.bandwidth) == ("4090", 24.0, 165, 1.008)
    assert planned_gpu("T4", None, None, None, 0.4).tflops == 65  # float16: it has no bfloat16
    own = planned_gpu("L4", 20.0, 100.0, 0.5, 0.4)
    assert (own.memory, own.tflops, own.fp32_tflops, own.bandwidth) == (20.0, 100.0, 100.0, 0.5)


def test_an_unknown_card_is_an_error() -> None:
    with pytest.raises(DataError, match=r"there is no card '4080'.*Set gpu_memory instead\.$"):
        find_card("4080", None)
