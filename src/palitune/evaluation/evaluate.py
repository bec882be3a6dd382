"""Evaluation of every task: generate, parse, score."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from palitune.data.dataset import TaskDataset
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.inference import generate_predictions
from palitune.evaluation.scoring import Results, score_predictions


def evaluate(
    network: Any,
    processor: Any,
    datasets: list[TaskDataset],
    settings: EvaluationConfig,
    *,
    title: str = "",
) -> Results:
    """Generate an answer to every example of every part and judge it by the part's own metrics.

    `title` names the progress line. Where several processes evaluate, all of them get the results.
    """
    answers = generate_predictions(network, processor, datasets, settings, title=title)
    return score_predictions(datasets, answers, settings)


def make_validation_fn(
    network: Any,
    processor: Any,
    datasets: list[TaskDataset],
    settings: EvaluationConfig,
    *,
    max_samples: int | None,
) -> Callable[[], dict[str, float]] | None:
    """Return a function that computes the validation metrics during training.

    It evaluates `max_samples` examples per dataset, without confidence intervals and slices.
    Without datasets the result is None.
    """
    if not datasets:
        return None
    limited = replace(settings, max_samples=max_samples, bootstrap_samples=0, slices=False)
    return lambda: evaluate(network, processor, datasets, limited, title="validation").metrics
