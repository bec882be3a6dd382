"""Settings that cannot be meant are refused with the key and what is valid."""

from typing import Any

import pytest

from palitune.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"global_batch_size": 6, "micro_batch_size": 4}, "micro_batch_size 4 must divide"),
        ({"global_batch_size": 0}, r"training\.global_batch_size must be at least 1"),
        ({"learning_rate": -1.0}, r"training\.learning_rate must be at least 0"),
        (
            {"gradient_checkpointing_ratio": 1.5},
            r"training\.gradient_checkpointing_ratio must lie in \[0, 1\]",
        ),
        ({"warmup_ratio": 1.5}, r"training\.warmup_ratio must lie in \[0, 1\]"),
        ({"epochs": 0}, r"training\.epochs must be above 0"),
        ({"max_steps": 0}, r"training\.max_steps must be at least 1"),
        ({"best_metric": "ocr/exact_match"}, r"needs training\.validation_split"),
        (
            {"early_stopping_patience": 3},
            r"training\.early_stopping_patience needs training\.best_metric",
        ),
        ({"early_stopping_patience": 0}, r"training\.early_stopping_patience must be at least 1"),
        ({"eval_every": 0}, r"eval_every must be a whole number of steps, or a share"),
        (
            {"eval_loss_every": 2.5},
            r"eval_loss_every must be a whole number of steps, or a share",
        ),
        (
            {"best_metric": "minival/loss", "validation_split": "validation"},
            r"best_metric minival/loss needs training\.eval_loss_every",
        ),
    ],
)
def test_a_setting_out_of_range_names_itself(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainingConfig(**changed)


def test_a_moment_is_a_step_or_a_share_of_the_run() -> None:
    assert TrainingConfig(eval_every=0.25, eval_loss_every=1, save_every=20).save_every == 20


def test_an_error_rate_is_best_when_lowest() -> None:
    lowest = TrainingConfig(best_metric="ocr/character_error_rate", validation_split="validation")
    assert not lowest.greater_is_better
    assert TrainingConfig().greater_is_better
