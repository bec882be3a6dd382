from typing import Any

import pytest

from palitune.evaluation.config import EvaluationConfig


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("num_beams", 0, "evaluation.num_beams must be at least 1, got 0."),
        ("duplicate_iou", 0.0, "evaluation.duplicate_iou must be above 0 and at most 1, got 0.0."),
        ("duplicate_iou", 1.5, "evaluation.duplicate_iou must be above 0 and at most 1, got 1.5."),
        ("batch_size", 0, "evaluation.batch_size must be at least 1, got 0."),
        ("max_samples", 0, "evaluation.max_samples must be at least 1, got 0."),
        ("num_workers", -1, "evaluation.num_workers must be at least 0, got -1."),
        ("bootstrap_samples", -1, "evaluation.bootstrap_samples must be at least 0, got -1."),
    ],
)
def test_an_invalid_value_raises_an_error_with_its_key(
    setting: str, value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**{setting: value})


def test_defaults_are_free_greedy_generation() -> None:
    settings = EvaluationConfig()
    assert (settings.constrained_decoding, settings.num_beams, settings.deduplicate) == (
        False,
        1,
        False,
    )
