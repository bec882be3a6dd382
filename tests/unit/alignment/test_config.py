"""Invalid alignment settings are rejected."""

from typing import Any

import pytest

from palitune.alignment.config import AlignmentConfig, AlignmentMethod


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_generations": 1}, r"num_generations must be at least 2, got 1\."),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"epsilon": 1}, r"epsilon must be above 0 and below 1, got 1\."),
        ({"margin": 0}, r"margin must be above 0 and at most 1, got 0\."),
        ({"sampled_prompts": 0}, "sampled_prompts must be at least 1"),
        ({"num_completions_to_print": -1}, "num_completions_to_print must be at least 0"),
        ({"beta": -0.1}, "beta must be at least 0"),
        ({"beta": 0, "method": AlignmentMethod.dpo}, "beta must be above 0 with method=dpo"),
        ({"pairs": "mine.jsonl"}, "pairs=mine.jsonl requires method=dpo"),
    ],
)
def test_an_invalid_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlignmentConfig(**settings)


def test_the_default_beta_depends_on_the_method() -> None:
    assert AlignmentConfig().effective_beta == 0.04
    assert AlignmentConfig(method=AlignmentMethod.dpo).effective_beta == 0.1
    assert AlignmentConfig(beta=0).effective_beta == 0
