"""Evaluation of datasets: generate predictions and compute metrics."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from rich.progress import Progress

from palitune.data.collator import Collator
from palitune.data.dataset import TaskDataset
from palitune.distributed import collectives
from palitune.distributed.terminal import escape_markup
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig, MultipleChoiceMode
from palitune.evaluation.inference import (
    make_collator,
    make_progress,
    split_batches,
)
from palitune.evaluation.partial_predictions import PredictionCache
from palitune.evaluation.scoring import Results, score_predictions
from palitune.evaluation.tiles.predict_tiles import predict_examples
from palitune.records import Prediction

log = logging.getLogger(__name__)


def evaluate(
    network: Any,
    processor: Any,
    datasets: list[TaskDataset],
    settings: EvaluationConfig,
    *,
    title: str = "",
) -> Results:
    """Generate a prediction for every example and compute the metrics of each dataset.

    Args:
        network: Model with or without adapter.
        processor: Processor of the model.
        datasets: Datasets with their tasks.
        settings: Evaluation settings.
        title: Suffix of the progress label.

    Returns:
        The results, on every rank.
    """
    predictions = generate_predictions(network, processor, datasets, settings, title=title)
    return score_predictions(datasets, predictions, settings)


def make_validation_fn(
    network: Any,
    processor: Any,
    datasets: list[TaskDataset],
    settings: EvaluationConfig,
    *,
    max_samples: int | None,
) -> Callable[[], dict[str, float]] | None:
    """Return a function that computes the validation metrics during training.

    It computes neither confidence intervals nor slices.

    Args:
        network: The model in training.
        processor: Processor of the model.
        datasets: Validation datasets. If there are none, the result is None.
        settings: Evaluation settings.
        max_samples: Examples to evaluate per dataset.
    """
    if not datasets:
        return None
    limited = replace(settings, max_samples=max_samples, bootstrap_samples=0, slices=False)
    return lambda: evaluate(network, processor, datasets, limited, title="validation").metrics


def generate_predictions(
    network: Any,
    processor: Any,
    datasets: Sequence[TaskDataset],
    settings: EvaluationConfig,
    *,
    cache: PredictionCache | None = None,
    title: str = "",
) -> list[list[Prediction]]:
    """Generate a prediction for the first `max_samples` examples of every dataset.

    Args:
        network: Model with or without adapter.
        processor: Processor of the model.
        datasets: Datasets with their tasks.
        settings: Evaluation settings.
        cache: Predictions of an interrupted evaluation, which are not generated again;
            new predictions are added to it.
        title: Suffix of the progress label.

    Returns:
        Predictions by dataset, in the order of the examples; empty lists on other ranks than 0.

    Raises:
        DataError: If an image cannot be decoded, or if `multiple_choice=loglikelihood` is set and
            no example has choices.
    """
    _check_multiple_choice(datasets, settings)
    collator = make_collator(processor, settings)
    predictions = []
    with make_progress() as progress:
        for dataset in datasets:
            label = " ".join(["evaluating", dataset.name, title]).rstrip()
            predictions.append(
                _predict_dataset(network, collator, dataset, settings, cache, progress, label)
            )
    return predictions


def _check_multiple_choice(datasets: Sequence[TaskDataset], settings: EvaluationConfig) -> None:
    if settings.multiple_choice is MultipleChoiceMode.generate:
        return
    if not any(
        dataset.task.choice_suffixes(dataset.examples[index])
        for dataset in datasets
        for index in range(settings.num_examples(dataset.examples))
    ):
        raise DataError(
            f"{datasets[0].examples[0].location}: evaluation.multiple_choice=loglikelihood needs "
            "examples with choices, but no example has any. Set "
            "evaluation.multiple_choice=generate."
        )


def _predict_dataset(
    network: Any,
    collator: Collator,
    dataset: TaskDataset,
    settings: EvaluationConfig,
    cache: PredictionCache | None,
    progress: Progress,
    label: str,
) -> list[Prediction]:
    """Generate the predictions that the cache lacks. Return all of them on rank 0."""
    examples, count = dataset.examples, settings.num_examples(dataset.examples)
    if collator.image_cache:
        collator.image_cache.check_disk_space(examples[:count])
    predictions = dict(cache.predictions.get(dataset.name, {})) if cache else {}
    cached_ids = collectives.broadcast_from_main(set(predictions))
    batches = [
        batch
        for batch in split_batches(count, settings.batch_size)
        if not cached_ids or not cached_ids >= {examples[index].id for index in batch}
    ]
    task_id = progress.add_task(escape_markup(label), total=sum(map(len, batches)))
    if settings.tiles is not None and not dataset.task.allow_crop:
        log.warning(
            "%s: whole images, because task %s has no boxes of all objects",
            dataset.name,
            dataset.task.name,
        )
        settings = replace(settings, tiles=None)
    for batch, results in predict_examples(
        network,
        collator,
        dataset.task,
        examples,
        batches,
        settings,
        with_references=settings.perplexity and dataset.has_references,
    ):
        new = [result for result in results if isinstance(result, Prediction)]
        predictions |= {prediction.id: prediction for prediction in new}
        if cache:
            cache.add(dataset.name, [examples[index] for index in batch], new)
        progress.advance(task_id, len(batch))
    if not collectives.is_main_process():
        return []
    return [predictions[examples[index].id] for index in range(count)]
