"""Predictions for images without annotations."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.inference import (
    make_collator,
    make_progress,
    split_batches,
)
from palitune.evaluation.object_quality.min_score import ALL_OBJECTS, ScoreThresholds
from palitune.evaluation.tiles.predict_tiles import predict_examples
from palitune.records import Example, Prediction
from palitune.tasks import Task


def stream_predictions(
    network: Any,
    processor: Any,
    examples: Sequence[Example],
    task: Task,
    settings: EvaluationConfig,
    *,
    skip_unreadable: bool = False,
    thresholds: ScoreThresholds = ALL_OBJECTS,
) -> Iterator[tuple[Example, Prediction] | DataError]:
    """Yield each example with its prediction, in order, as they are generated.

    Args:
        network: Model with or without adapter.
        processor: Processor of the model.
        examples: Prompts without references.
        task: Task that parses the generated text.
        settings: Evaluation settings.
        skip_unreadable: Yield a DataError for an image that cannot be decoded, instead of raising
            it.
        thresholds: Objects with a lower score are left out.

    Yields:
        Results on rank 0; nothing on the others.

    Raises:
        DataError: On every rank, if an image cannot be decoded and `skip_unreadable` is False.
    """
    collator = make_collator(processor, settings)
    if collator.image_cache:
        collator.image_cache.check_disk_space(examples)
    batches = split_batches(len(examples), settings.batch_size)
    with make_progress() as progress:
        task_id = progress.add_task("predicting", total=len(examples))
        predicted = predict_examples(
            network, collator, task, examples, batches, settings, skip_unreadable=skip_unreadable
        )
        try:
            for batch, results in predicted:
                by_id = {examples[index].id: examples[index] for index in batch}
                for result in results:
                    if isinstance(result, DataError):
                        yield result
                    else:
                        kept = replace(result, value=thresholds.keep(result.value))
                        yield by_id[result.id], kept
                progress.advance(task_id, len(batch))
        except DataError as error:
            if skip_unreadable:
                raise
            sentence = str(error).rstrip(".")
            raise DataError(f"{sentence}. Set skip_unreadable=true to skip this image.") from error
