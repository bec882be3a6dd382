"""Invalid training settings are rejected with the key and its valid range."""

from typing import Any

import pytest

from palitune.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"global_batch_size": 6, "micro_batch_size": 4},
            r"micro_batch_size must divide training\.global_batch_size=6, got 4\.",
        ),
        ({"global_batch_size": 0}, r"training\.global_batch_size must be at least 1, got 0\."),
        ({"learning_rate": -1.0}, r"training\.learning_rate must be at least 0"),
        (
            {"gradient_checkpointing_ratio": 1.5},
            r"gradient_checkpointing_ratio must be at least 0 and at most 1, got 1\.5\.",
        ),
        ({"warmup_ratio": 1.5}, r"training\.warmup_ratio must be at least 0 and at most 1"),
        ({"epochs": 0}, r"training\.epochs must be above 0"),
        ({"max_steps": 0}, r"training\.max_steps must be at least 1"),
        (
            {"best_metric": "ocr/exact_match"},
            r"best_metric requires .* Set training\.validation_split",
        ),
        (
            {"early_stopping_patience": 3},
            r"training\.early_stopping_patience requires .* Set training\.best_metric",
        ),
        ({"early_stopping_patience": 0}, r"training\.early_stopping_patience must be at least 1"),
        ({"eval_every": 0}, r"eval_every must be a whole number of steps or a share"),
        (
            {"eval_loss_every": 2.5},
            r"eval_loss_every must be a whole number of steps or a share",
        ),
        (
            {"best_metric": "minival/loss", "validation_split": "validation"},
            r"best_metric=minival/loss requires training\.eval_loss_every",
        ),
    ],
)
def test_an_invalid_setting_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**changed)


def test_an_interval_is_in_steps_or_a_share_of_the_run() -> None:
    assert TrainingConfig(eval_every=0.25, eval_loss_every=1, save_every=20).save_every == 20


def test_a_lower_error_rate_is_better() -> None:
    lowest = TrainingConfig(best_metric="ocr/character_error_rate", validation_split="validation")
    assert not lowest.greater_is_better
    assert TrainingConfig().greater_is_better
