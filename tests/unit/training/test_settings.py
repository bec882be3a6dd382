"""Settings that cannot be meant are refused with the key and what is valid."""

from typing import Any

import pytest

from palitune.training.settings import Training


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 6, "micro_batch_size": 4}, "micro_batch_size 4 must divide"),
        ({"batch_size": 0}, r"training\.batch_size must be at least 1"),
        ({"learning_rate": -1.0}, r"training\.learning_rate must be at least 0"),
        ({"checkpointed_share": 1.5}, r"training\.checkpointed_share must lie in \[0, 1\]"),
        ({"warmup": 1.5}, r"training\.warmup must lie in \[0, 1\]"),
        ({"epochs": 0}, r"training\.epochs must be above 0"),
        ({"max_steps": 0}, r"training\.max_steps must be at least 1"),
        ({"best_metric": "ocr/exact_match"}, r"needs training\.validation_split"),
        ({"patience": 3}, r"training\.patience needs training\.best_metric"),
        ({"patience": 0}, r"training\.patience must be at least 1"),
        ({"validate_every": 0}, r"validate_every must be a whole number of steps, or a share"),
        (
            {"perplexity_every": 2.5},
            r"perplexity_every must be a whole number of steps, or a share",
        ),
        (
            {"best_metric": "minival/loss", "validation_split": "validation"},
            r"best_metric minival/loss needs training\.perplexity_every",
        ),
    ],
)
def test_a_setting_out_of_range_names_itself(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Training(**changed)


def test_a_moment_is_a_step_or_a_share_of_the_run() -> None:
    assert Training(validate_every=0.25, perplexity_every=1, save_every=20).save_every == 20


def test_an_error_rate_is_best_when_lowest() -> None:
    lowest = Training(best_metric="ocr/character_error_rate", validation_split="validation")
    assert not lowest.best_is_highest
    assert Training().best_is_highest
