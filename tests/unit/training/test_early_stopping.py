"""The best measurement is told by the number's own direction, and patience counts from it."""

import math
from typing import Any

import pytest

from palitune.metrics import METRICS, higher_is_better
from palitune.training.config import TrainingConfig
from palitune.training.early_stopping import (
    Best,
    best_evaluation,
    patience_exhausted,
    summary_messages,
)

NAME = "ocr/exact_match"


def record(*values: float, name: str = NAME) -> list[dict[str, float]]:
    """What a trainer writes down: losses between the measurements of every tenth step."""
    measured = [{"step": 10 * place, f"eval_{name}": v} for place, v in enumerate(values, start=1)]
    return [entry for one in measured for entry in ({"loss": 2.0, "step": one["step"]}, one)]


@pytest.mark.parametrize(
    ("values", "highest", "found"),
    [
        ([0.3, 0.9, 0.1], True, Best(20, 0.9, 3, 1)),
        ([0.3, 0.9, 0.1], False, Best(30, 0.1, 3, 0)),
        ([0.5, 0.7, 0.7, 0.7], True, Best(20, 0.7, 4, 2)),
        ([math.nan, 0.2, math.nan], True, Best(20, 0.2, 3, 1)),
    ],
)
def test_the_best_is_the_first_of_equals_and_never_undefined(
    values: list[float], highest: bool, found: Best
) -> None:
    assert best_evaluation(record(*values), NAME, greater_is_better=highest) == found


def test_nothing_is_best_where_nothing_was_a_number() -> None:
    best = best_evaluation(record(math.nan, math.nan), NAME, greater_is_better=True)
    assert (best.step, best.num_evaluations, best.num_evaluations_since) == (None, 2, 2)
    assert best_evaluation([], NAME, greater_is_better=True).num_evaluations_since == 0


def settings(**changed: Any) -> TrainingConfig:
    return TrainingConfig(validation_split="validation", best_metric=NAME, **changed)


def test_patience_ends_after_so_many_measurements_without_a_better_one() -> None:
    chosen = settings(early_stopping_patience=2)
    assert not patience_exhausted(record(0.3, 0.9, 0.1), chosen)
    assert patience_exhausted(record(0.3, 0.9, 0.1, 0.9), chosen)
    assert not patience_exhausted(record(0.3, 0.9, 0.1, 0.9), settings())
    assert not patience_exhausted(record(0.3, 0.9, 0.1, 0.9), TrainingConfig())


def test_an_error_that_falls_is_getting_better() -> None:
    chosen = TrainingConfig(
        validation_split="validation",
        best_metric="ocr/character_error_rate",
        early_stopping_patience=1,
    )
    falling = record(0.9, 0.5, 0.2, name="ocr/character_error_rate")
    assert not patience_exhausted(falling, chosen)
    assert summary_messages(falling, chosen, 30, 30) == [
        "the adapter is that of step 30, the best of 3 measurements by ocr/character_error_rate "
        "(0.2)"
    ]


def test_an_early_end_is_said_with_its_reason() -> None:
    chosen = settings(early_stopping_patience=2)
    assert summary_messages(record(0.3, 0.9, 0.1, 0.9), chosen, 40, 100) == [
        "the adapter is that of step 20, the best of 4 measurements by ocr/exact_match (0.9)",
        "training stopped early at step 40 of 100: 2 measurements in a row were no better "
        "(training.early_stopping_patience=2)",
    ]
    assert summary_messages([], TrainingConfig(), 100, 100) == []


def test_the_direction_of_everything_that_a_task_reports_is_known_by_its_name() -> None:
    for metric in METRICS.keys() - {"meteor", "spice"}:  # which need Java
        for name in METRICS[metric]().compute():
            is_fault = name.endswith("error_rate") or name == "malformed_objects"
            assert higher_is_better(name) != is_fault, metric
    for name in ("minival/loss", "minival/ocr/perplexity", "ocr/malformed", "ocr/unfinished"):
        assert not higher_is_better(name)
