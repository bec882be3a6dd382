"""The best validation depends on the direction of the metric, and patience counts from it."""

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest

from palitune.metrics import METRICS, higher_is_better
from palitune.training.config import TrainingConfig
from palitune.training.early_stopping import (
    Best,
    TimeLimitCallback,
    best_evaluation,
    patience_exhausted,
    summary_messages,
)

NAME = "ocr/exact_match"


def record(*values: float, name: str = NAME) -> list[dict[str, float]]:
    """The log history of a Trainer with a validation every ten steps and losses between them."""
    metrics = [{"step": 10 * i, f"eval_{name}": value} for i, value in enumerate(values, start=1)]
    return [entry for m in metrics for entry in ({"loss": 2.0, "step": m["step"]}, m)]


@pytest.mark.parametrize(
    ("values", "greater_is_better", "best"),
    [
        ([0.3, 0.9, 0.1], True, Best(20, 0.9, 3, 1)),
        ([0.3, 0.9, 0.1], False, Best(30, 0.1, 3, 0)),
        ([0.5, 0.7, 0.7, 0.7], True, Best(20, 0.7, 4, 2)),
        ([math.nan, 0.2, math.nan], True, Best(20, 0.2, 3, 1)),
    ],
)
def test_the_best_is_the_first_of_equals_and_never_nan(
    values: list[float], greater_is_better: bool, best: Best
) -> None:
    assert best_evaluation(record(*values), NAME, greater_is_better=greater_is_better) == best


def test_there_is_no_best_if_all_values_are_nan() -> None:
    best = best_evaluation(record(math.nan, math.nan), NAME, greater_is_better=True)
    assert (best.step, best.num_evaluations, best.num_evaluations_since) == (None, 2, 2)
    assert best_evaluation([], NAME, greater_is_better=True).num_evaluations_since == 0


def settings(**changed: Any) -> TrainingConfig:
    return TrainingConfig(validation_split="validation", best_metric=NAME, **changed)


def test_patience_is_exhausted_after_validations_without_improvement() -> None:
    chosen = settings(early_stopping_patience=2)
    assert not patience_exhausted(record(0.3, 0.9, 0.1), chosen)
    assert patience_exhausted(record(0.3, 0.9, 0.1, 0.9), chosen)
    assert not patience_exhausted(record(0.3, 0.9, 0.1, 0.9), settings())
    assert not patience_exhausted(record(0.3, 0.9, 0.1, 0.9), TrainingConfig())


def test_a_decreasing_error_rate_is_an_improvement() -> None:
    chosen = TrainingConfig(
        validation_split="validation",
        best_metric="ocr/character_error_rate",
        early_stopping_patience=1,
    )
    falling = record(0.9, 0.5, 0.2, name="ocr/character_error_rate")
    assert not patience_exhausted(falling, chosen)
    assert summary_messages(falling, chosen, 30, 30) == [
        "the adapter is that of step 30, the best of 3 validations by ocr/character_error_rate "
        "(0.2)"
    ]


def test_an_early_stop_is_described_with_its_reason() -> None:
    chosen = settings(early_stopping_patience=2)
    assert summary_messages(record(0.3, 0.9, 0.1, 0.9), chosen, 40, 100) == [
        "the adapter is that of step 20, the best of 4 validations by ocr/exact_match (0.9)",
        "training stopped early at step 40 of 100: 2 validations in a row did not improve "
        "(training.early_stopping_patience=2)",
    ]
    assert summary_messages([], TrainingConfig(), 100, 100) == []


def test_the_direction_of_every_metric_follows_from_its_name() -> None:
    for metric in METRICS.keys() - {"meteor", "spice"}:  # these require Java
        for name in METRICS[metric]().compute():
            malformed = name in ("malformed_objects", "json_malformed")
            is_error = malformed or name.endswith("error_rate")
            assert higher_is_better(name) != is_error, metric
    for name in ("minival/loss", "minival/ocr/perplexity", "ocr/malformed", "ocr/unfinished"):
        assert not higher_is_better(name)


@pytest.mark.parametrize(
    ("max_hours", "minutes", "step", "stops"),
    [(0.5, 29, 7, False), (0.5, 30, 7, True), (0.5, 30, 40, False), (None, 999, 7, False)],
)
def test_a_training_validates_saves_and_ends_after_its_hours(
    monkeypatch: pytest.MonkeyPatch, max_hours: float | None, minutes: float, step: int, stops: bool
) -> None:
    control = SimpleNamespace(should_evaluate=False, should_save=False, should_training_stop=False)
    state = SimpleNamespace(global_step=step, max_steps=40)
    callback = TimeLimitCallback(TrainingConfig(max_hours=max_hours))
    clock = iter([1000.0, *[1000 + 60 * minutes] * 3])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    callback.on_train_begin(None, state, control)
    callback.on_step_end(SimpleNamespace(eval_strategy="epoch"), state, control)
    assert set(vars(control).values()) == {stops}
    without_validation = SimpleNamespace(eval_strategy="no")
    callback.on_step_end(without_validation, state, control)
    assert (control.should_evaluate, control.should_save) == (False, stops)


def test_an_end_by_time_is_described() -> None:
    settings = TrainingConfig(max_hours=0.5)
    assert summary_messages([], settings, 7, 40) == [
        "training ended at step 7 of 40 after training.max_hours=0.5"
    ]
    assert summary_messages([], settings, 40, 40) == []
