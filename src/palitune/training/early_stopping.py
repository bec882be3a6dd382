"""Best validation so far, and early stopping.

Both are computed from the Trainer's log history, which every checkpoint contains, so that a resumed
training decides as an uninterrupted one would.
"""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from palitune.distributed import collectives
from palitune.training.config import TrainingConfig

EVAL_PREFIX = "eval_"
"""Prefix of validation metrics in the Trainer's log history."""


@dataclass(frozen=True)
class Best:
    """The best validation by one metric; the first of equal ones."""

    step: int | None
    """None if the metric was NaN in all of them."""
    value: float
    num_evaluations: int
    """Number of validations."""
    num_evaluations_since: int
    """Validations after the best one; all of them if the metric was always NaN."""


def best_evaluation(
    log_history: Iterable[Mapping[str, float]], metric: str, *, greater_is_better: bool
) -> Best:
    """Find the best validation by a metric in the log history of a Trainer, ignoring NaN."""
    key = EVAL_PREFIX + metric
    values = [(int(entry["step"]), entry[key]) for entry in log_history if key in entry]
    candidates = [index for index, (_, value) in enumerate(values) if not math.isnan(value)]
    if not candidates:
        return Best(None, math.nan, len(values), len(values))
    choose = max if greater_is_better else min  # both return the first of equal values
    best = choose(candidates, key=lambda index: values[index][1])
    return Best(*values[best], len(values), len(values) - 1 - best)


def patience_exhausted(
    log_history: Iterable[Mapping[str, float]], settings: TrainingConfig
) -> bool:
    """Return whether training stops because the metric has not improved for long enough."""
    if settings.best_metric is None or settings.early_stopping_patience is None:
        return False
    best = best_evaluation(
        log_history, settings.best_metric, greater_is_better=settings.greater_is_better
    )
    return best.num_evaluations_since >= settings.early_stopping_patience


class EarlyStoppingCallback(TrainerCallback):  # type: ignore[misc]
    """Save a checkpoint at every improvement, and stop when patience is exhausted."""

    def __init__(self, settings: TrainingConfig) -> None:
        self.settings = settings

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.settings.best_metric is None:
            return
        best = best_evaluation(
            state.log_history,
            self.settings.best_metric,
            greater_is_better=self.settings.greater_is_better,
        )
        if best.step == state.global_step:
            control.should_save = True
        if patience_exhausted(state.log_history, self.settings):
            control.should_training_stop = True


class TimeLimitCallback(TrainerCallback):  # type: ignore[misc]
    """Validate, save and stop when the hours of this call are used up.

    The limit holds for a call: a resumed training has all hours again.
    """

    def __init__(self, settings: TrainingConfig) -> None:
        self.max_seconds = (settings.max_hours or math.inf) * 3600
        self._start = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._start = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.max_seconds == math.inf or state.global_step >= state.max_steps:
            return
        # The clocks of the processes differ, but they must stop at the same step.
        if collectives.any_rank(time.monotonic() - self._start >= self.max_seconds):
            control.should_evaluate = args.eval_strategy != "no"
            control.should_save = True
            control.should_training_stop = True


def summary_messages(
    log_history: list[dict[str, float]], settings: TrainingConfig, steps: int, planned_steps: int
) -> list[str]:
    """Describe which step `best_metric` selected, and an early stop."""
    stopped_early = patience_exhausted(log_history, settings)
    time_limit = []
    if settings.max_hours is not None and steps < planned_steps and not stopped_early:
        time_limit = [
            f"training ended at step {steps} of {planned_steps} after "
            f"training.max_hours={settings.max_hours:g}"
        ]
    if settings.best_metric is None:
        return time_limit
    name = settings.best_metric
    best = best_evaluation(log_history, name, greater_is_better=settings.greater_is_better)
    if best.step is None:
        return [
            *time_limit,
            f"{name} was NaN in every validation: the adapter is that of the last step, {steps}",
        ]
    messages = [
        *time_limit,
        f"the adapter is that of step {best.step}, the best of {best.num_evaluations} validations "
        f"by {name} ({best.value:.4g})",
    ]
    if steps < planned_steps and stopped_early:
        messages.append(
            f"training stopped early at step {steps} of {planned_steps}: "
            f"{best.num_evaluations_since} validations in a row did not improve "
            f"(training.early_stopping_patience={settings.early_stopping_patience})"
        )
    return messages
