"""What is told of an alignment is checked as it is told."""

from typing import Any

import pytest

from palitune.alignment.settings import Alignment, Method


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"group": 1}, "group must be at least 2"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"clip": 1}, "clip must lie between"),
        ({"margin": 0}, "margin must be in"),
        ({"sampled_prompts": 0}, "sampled_prompts must be at least 1"),
        ({"shown": -1}, "shown must be at least 0"),
        ({"kl_weight": -0.1}, "kl_weight must be at least 0"),
        ({"kl_weight": 0, "method": Method.dpo}, "kl_weight must be above 0 with dpo"),
        ({"pairs": "mine.jsonl"}, "pairs=mine.jsonl is of method=dpo"),
    ],
)
def test_what_means_nothing_is_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Alignment(**told)


def test_the_weight_of_the_divergence_is_that_of_the_method() -> None:
    assert Alignment().weight == 0.04
    assert Alignment(method=Method.dpo).weight == 0.1
    assert Alignment(kl_weight=0).weight == 0
