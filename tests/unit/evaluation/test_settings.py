from typing import Any

import pytest

from palitune.evaluation.settings import Evaluation


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("beams", 0, "evaluation.beams must be at least 1, not 0"),
        ("duplicate_iou", 0.0, r"evaluation.duplicate_iou must be in \(0, 1\], not 0.0"),
        ("duplicate_iou", 1.5, r"evaluation.duplicate_iou must be in \(0, 1\], not 1.5"),
        ("batch_size", 0, "evaluation.batch_size must be at least 1, not 0"),
        ("limit", 0, "evaluation.limit must be at least 1, not 0"),
        ("workers", -1, "evaluation.workers must be at least 0, not -1"),
        ("resamples", -1, "evaluation.resamples must be at least 0, not -1"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(setting: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluation(**{setting: value})


def test_free_and_greedy_is_the_default_as_benchmarks_are() -> None:
    settings = Evaluation()
    assert (settings.grammar, settings.beams, settings.drop_duplicates) == (False, 1, False)
