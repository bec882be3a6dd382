"""Which measurement was the best so far, and when to stop waiting for a better one.

Both are read out of the trainer's own record of its measurements, which every checkpoint holds: a
resumed training knows what it knew.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from palitune.training.config import TrainingConfig

EVAL_PREFIX = "eval_"
"""What the trainer's record writes before the name of a number that checkpoints are compared by."""


@dataclass(frozen=True)
class Best:
    """The best of some measurements: the first of equals."""

    step: int | None
    """None where none was a number."""
    value: float
    num_evaluations: int
    """Measurements there are."""
    num_evaluations_since: int
    """Measurements after the best one; all, where none was a number."""


def best_evaluation(
    log_history: Iterable[Mapping[str, float]], metric: str, *, greater_is_better: bool
) -> Best:
    """Find the best measurement of a number; one that is not a number (NaN) is never it."""
    key = EVAL_PREFIX + metric
    measured = [(int(entry["step"]), entry[key]) for entry in log_history if key in entry]
    best: int | None = None
    for place, (_, value) in enumerate(measured):
        if math.isnan(value):
            continue
        if best is None or (
            value > measured[best][1] if greater_is_better else value < measured[best][1]
        ):
            best = place
    count = len(measured)
    if best is None:
        return Best(None, math.nan, count, count)
    return Best(*measured[best], count, count - 1 - best)


def patience_exhausted(
    log_history: Iterable[Mapping[str, float]], settings: TrainingConfig
) -> bool:
    """Tell whether so many measurements brought nothing better that training is to stop."""
    if settings.best_metric is None or settings.early_stopping_patience is None:
        return False
    best = best_evaluation(
        log_history, settings.best_metric, greater_is_better=settings.greater_is_better
    )
    return best.num_evaluations_since >= settings.early_stopping_patience


class EarlyStoppingCallback(TrainerCallback):  # type: ignore[misc]
    """Save a checkpoint of every new best, and stop where patience ends."""

    def __init__(self, settings: TrainingConfig) -> None:
        self.settings = settings

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.settings.best_metric is None:
            return
        highest = self.settings.greater_is_better
        best = best_evaluation(
            state.log_history, self.settings.best_metric, greater_is_better=highest
        )
        if best.step == state.global_step:
            control.should_save = True
        if patience_exhausted(state.log_history, self.settings):
            control.should_training_stop = True


def summary_messages(
    log_history: list[dict[str, float]], settings: TrainingConfig, steps: int, planned_steps: int
) -> list[str]:
    """Say what became of a training that was compared by `best_metric`, in sentences."""
    if settings.best_metric is None:
        return []
    name = settings.best_metric
    best = best_evaluation(log_history, name, greater_is_better=settings.greater_is_better)
    if best.step is None:
        return [f"{name} was never a number: the adapter is that of the last step, {steps}"]
    said = [
        f"the adapter is that of step {best.step}, the best of {best.num_evaluations} measurements by {name} "
        f"({best.value:.4g})"
    ]
    if steps < planned_steps and patience_exhausted(log_history, settings):
        said.append(
            f"training stopped early at step {steps} of {planned_steps}: {best.num_evaluations_since} measurements in a "
            f"row were no better (training.early_stopping_patience={settings.early_stopping_patience})"
        )
    return said
