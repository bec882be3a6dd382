"""Which measurement was the best so far, and when to stop waiting for a better one.

Both are read out of the trainer's own record of its measurements, which every checkpoint holds: a
resumed training knows what it knew.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from palitune.training.settings import Training

MEASURED = "eval_"
"""What the trainer's record writes before the name of a number that checkpoints are compared by."""


@dataclass(frozen=True)
class Best:
    """The best of some measurements: the first of equals."""

    step: int | None
    """None where none was a number."""
    value: float
    count: int
    """Measurements there are."""
    since: int
    """Measurements after the best one; all, where none was a number."""


def best_of(record: Iterable[Mapping[str, float]], name: str, *, highest: bool) -> Best:
    """Find the best measurement of a number; one that is not a number (NaN) is never it."""
    key = MEASURED + name
    measured = [(int(entry["step"]), entry[key]) for entry in record if key in entry]
    best: int | None = None
    for place, (_, value) in enumerate(measured):
        if math.isnan(value):
            continue
        if best is None or (value > measured[best][1] if highest else value < measured[best][1]):
            best = place
    count = len(measured)
    if best is None:
        return Best(None, math.nan, count, count)
    return Best(*measured[best], count, count - 1 - best)


def is_exhausted(record: Iterable[Mapping[str, float]], settings: Training) -> bool:
    """Tell whether so many measurements brought nothing better that training is to stop."""
    if settings.best_metric is None or settings.patience is None:
        return False
    best = best_of(record, settings.best_metric, highest=settings.best_is_highest)
    return best.since >= settings.patience


class Stopping(TrainerCallback):  # type: ignore[misc]
    """Save a checkpoint of every new best, and stop where patience ends."""

    def __init__(self, settings: Training) -> None:
        self.settings = settings

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.settings.best_metric is None:
            return
        highest = self.settings.best_is_highest
        best = best_of(state.log_history, self.settings.best_metric, highest=highest)
        if best.step == state.global_step:
            control.should_save = True
        if is_exhausted(state.log_history, self.settings):
            control.should_training_stop = True


def remarks(
    record: list[dict[str, float]], settings: Training, steps: int, planned: int
) -> list[str]:
    """Say what became of a training that was compared by `best_metric`, in sentences."""
    if settings.best_metric is None:
        return []
    name = settings.best_metric
    best = best_of(record, name, highest=settings.best_is_highest)
    if best.step is None:
        return [f"{name} was never a number: the adapter is that of the last step, {steps}"]
    said = [
        f"the adapter is that of step {best.step}, the best of {best.count} measurements by {name} "
        f"({best.value:.4g})"
    ]
    if steps < planned and is_exhausted(record, settings):
        said.append(
            f"training stopped early at step {steps} of {planned}: {best.since} measurements in a "
            f"row were no better (training.patience={settings.patience})"
        )
    return said
