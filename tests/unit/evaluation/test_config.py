from typing import Any

import pytest

from palitune.evaluation.config import EvaluationConfig


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("num_beams", 0, "evaluation.num_beams must be at least 1, not 0"),
        ("duplicate_iou", 0.0, r"evaluation.duplicate_iou must be in \(0, 1\], not 0.0"),
        ("duplicate_iou", 1.5, r"evaluation.duplicate_iou must be in \(0, 1\], not 1.5"),
        ("batch_size", 0, "evaluation.batch_size must be at least 1, not 0"),
        ("max_samples", 0, "evaluation.max_samples must be at least 1, not 0"),
        ("num_workers", -1, "evaluation.num_workers must be at least 0, not -1"),
        ("bootstrap_samples", -1, "evaluation.bootstrap_samples must be at least 0, not -1"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(setting: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**{setting: value})


def test_free_and_greedy_is_the_default_as_benchmarks_are() -> None:
    settings = EvaluationConfig()
    assert (settings.constrained_decoding, settings.num_beams, settings.deduplicate) == (
        False,
        1,
        False,
    )
