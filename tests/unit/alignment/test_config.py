"""What is told of an alignment is checked as it is told."""

from typing import Any

import pytest

from palitune.alignment.config import AlignmentConfig, AlignmentMethod


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"num_generations": 1}, "num_generations must be at least 2"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"epsilon": 1}, "epsilon must lie between"),
        ({"margin": 0}, "margin must be in"),
        ({"sampled_prompts": 0}, "sampled_prompts must be at least 1"),
        ({"log_completions": -1}, "log_completions must be at least 0"),
        ({"beta": -0.1}, "beta must be at least 0"),
        ({"beta": 0, "method": AlignmentMethod.dpo}, "beta must be above 0 with dpo"),
        ({"pairs": "mine.jsonl"}, "pairs=mine.jsonl is of method=dpo"),
    ],
)
def test_what_means_nothing_is_refused(told: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AlignmentConfig(**told)


def test_the_weight_of_the_divergence_is_that_of_the_method() -> None:
    assert AlignmentConfig().effective_beta == 0.04
    assert AlignmentConfig(method=AlignmentMethod.dpo).effective_beta == 0.1
    assert AlignmentConfig(beta=0).effective_beta == 0
