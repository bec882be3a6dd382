"""One loop for every task: batches -> generate -> parse -> metric."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from palitune.evaluation.settings import Evaluation
from palitune.training.faults import TrainingError
from palitune.training.settings import MINIVAL_LOSS, Training

if TYPE_CHECKING:
    from palitune.data.dataset import Part
    from palitune.evaluation.loop import Results


def evaluate(
    network: Any, processor: Any, parts: "list[Part]", settings: Evaluation, *, title: str = ""
) -> "Results":
    """See `palitune.evaluation.loop.evaluate`; torch is imported on the first call."""
    from palitune.evaluation import loop

    return loop.evaluate(network, processor, parts, settings, title=title)


def measure(
    network: Any, processor: Any, parts: "list[Part]", settings: Evaluation, training: Training
) -> Callable[[], dict[str, float]] | None:
    """What a training measures on the way, on `training.validation_limit` examples per part.

    None where there are no parts to measure on. Raises TrainingError where `training.best_metric`
    is not among what will be measured.
    """
    if not parts:
        return None
    from palitune.evaluation import loop

    names = loop.metric_names(parts)
    if training.best_metric not in (None, MINIVAL_LOSS, *names):
        raise TrainingError(
            f"training.best_metric: {training.best_metric!r} is not one of {', '.join(names)}"
        )
    limited = replace(settings, limit=training.validation_limit, resamples=0)
    return lambda: evaluate(network, processor, parts, limited, title="validation").metrics


__all__ = ["Evaluation", "evaluate", "measure"]
