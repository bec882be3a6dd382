"""Batched inference on one or several processes: load a batch, generate, parse.

Batches are formed as for one process and then distributed over the ranks, so the number of
processes does not change any prediction. A resumed evaluation uses the same batches.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.data import DataLoader

from palitune.data.collator import Batch, Collator
from palitune.data.loader_workers import resolve_num_workers
from palitune.distributed import collectives
from palitune.errors import DataError
from palitune.evaluation.answering import Question, answer_prompts
from palitune.evaluation.config import EvaluationConfig, MultipleChoiceMode
from palitune.evaluation.multiple_choice import collate_choices, pick_choices
from palitune.evaluation.out_of_memory import HalvingBatches
from palitune.evaluation.perplexity import reference_batches, reference_likelihoods
from palitune.records import Example, Prediction
from palitune.tasks import Task

T = TypeVar("T")


def make_collator(processor: Any, settings: EvaluationConfig) -> Collator:
    """Return a collator with the resize backend and the image cache of the settings."""
    return Collator(processor, resize_backend=settings.resize, image_cache=settings.image_cache)


def make_progress() -> Progress:
    """Return a progress bar that is shown on the main process only."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        transient=True,
        disable=not collectives.is_main_process(),
    )


ROUNDS_PER_GATHER = 16
"""Batches that each process predicts before the results are gathered, where all wait for the
slowest; a process with long answers in one batch has shorter ones in others."""


def split_batches(count: int, batch_size: int) -> list[list[int]]:
    """Split the indices 0 to count - 1 into batches."""
    return _split(list(range(count)), batch_size)


def _split(values: Sequence[T], size: int) -> list[list[T]]:
    return [list(values[start : start + size]) for start in range(0, len(values), size)]


def predict_batches(
    network: Any,
    collator: Collator,
    task: Task,
    examples: Sequence[Example],
    batches: Sequence[list[int]],
    settings: EvaluationConfig,
    *,
    with_references: bool = False,
    skip_unreadable: bool = False,
) -> Iterator[tuple[list[int], list[Prediction | DataError]]]:
    """Distribute batches over the processes and yield their results on rank 0, in order.

    Args:
        network: Model with or without adapter.
        collator: Makes the batches, in the workers of the data loader.
        task: Task of the examples.
        examples: All examples of a dataset.
        batches: Indices of the examples of each batch.
        settings: Evaluation settings.
        with_references: Also compute the log-likelihood of the references.
        skip_unreadable: Return the DataError of an image that cannot be decoded as a result. If
            False, it is raised on every rank.

    Yields:
        The indices of a batch and its results, errors first.
    """
    world_size = collectives.world_size()
    num_workers = resolve_num_workers(settings.num_workers)
    loader: Iterable[_LoadedBatch] = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_sampler=batches[collectives.rank() :: world_size],
        collate_fn=partial(_load_batch, collator, task, settings, with_references),
        num_workers=num_workers if len(batches) > 1 else 0,
    )
    halving = HalvingBatches(settings.batch_size)
    predicted = (
        [
            *loaded.errors,
            *halving.run(
                loaded,
                loaded.examples,
                predict=lambda batch: _predict_batch(
                    network, collator.tokenizer, task, batch, settings
                ),
                collate=lambda part: _collate(
                    collator, task, settings, with_references, list(part), errors=[]
                ),
            ),
        ]
        for loaded in loader
    )
    rounds = ROUNDS_PER_GATHER if world_size > 1 else 1
    for part in _split(batches, world_size * rounds):
        # In the last round some ranks have no batch and send an empty list.
        own = [next(predicted, []) for _ in part[::world_size]]
        # A list per round of a list per rank; empty on other ranks than 0.
        results = list(chain.from_iterable(zip(*collectives.gather_to_main(own), strict=True)))
        if not skip_unreadable:
            errors = [
                result for batch in results for result in batch if isinstance(result, DataError)
            ]
            if error := collectives.broadcast_from_main(next(iter(errors), None)):
                raise error
        yield from zip(part, results, strict=False)


@dataclass(frozen=True)
class _LoadedBatch:
    """The tensors of some examples, made by a worker of the data loader."""

    examples: list[Example]
    """Examples with readable images."""
    choice_examples: list[Example]
    """Examples that are answered by their most likely choice; the others by generation."""
    choice_batch: Batch | None
    prompt_examples: list[Example]
    prompt_batch: Batch | None
    reference_batches: list[Batch]
    """Batches of all references; empty unless their log-likelihood is computed."""
    errors: list[DataError]


def _load_batch(
    collator: Collator,
    task: Task,
    settings: EvaluationConfig,
    with_references: bool,
    examples: Sequence[Example],
) -> _LoadedBatch:
    """Collate examples without those whose images cannot be decoded."""
    collate = partial(_collate, collator, task, settings, with_references)
    try:
        return collate(list(examples), [])
    except DataError:
        errors = {example.id: _decode_error(collator, example) for example in examples}
    readable = [example for example in examples if errors[example.id] is None]
    return collate(readable, [error for error in errors.values() if error])


def _collate(
    collator: Collator,
    task: Task,
    settings: EvaluationConfig,
    with_references: bool,
    examples: list[Example],
    errors: list[DataError],
) -> _LoadedBatch:
    choice_examples: list[Example] = []
    if settings.multiple_choice is MultipleChoiceMode.loglikelihood:
        choice_examples = [example for example in examples if task.choice_suffixes(example)]
    choice_ids = {example.id for example in choice_examples}
    prompt_examples = [example for example in examples if example.id not in choice_ids]
    return _LoadedBatch(
        examples=examples,
        choice_examples=choice_examples,
        choice_batch=collate_choices(collator, task, choice_examples),
        prompt_examples=prompt_examples,
        prompt_batch=collator.collate_prompts(prompt_examples) if prompt_examples else None,
        reference_batches=reference_batches(collator, examples)
        if with_references and examples
        else [],
        errors=errors,
    )


def _decode_error(collator: Collator, example: Example) -> DataError | None:
    """Return the error of an image that cannot be decoded."""
    try:
        collator.collate_prompts([example])
    except DataError as error:
        return error
    return None


def _predict_batch(
    network: Any, tokenizer: Any, task: Task, loaded: _LoadedBatch, settings: EvaluationConfig
) -> list[Prediction | DataError]:
    """Return the predictions of a batch, in the order of its examples."""
    predictions = pick_choices(network, task, loaded.choice_examples, loaded.choice_batch)
    if loaded.prompt_batch is not None:
        questions = [
            Question(example=example, task=task, constrained=settings.constrained_decoding)
            for example in loaded.prompt_examples
        ]
        predictions += answer_prompts(
            network, tokenizer, questions, loaded.prompt_batch, num_beams=settings.num_beams
        )
    by_id = {prediction.id: prediction for prediction in predictions}
    predictions = [by_id[example.id] for example in loaded.examples]
    if loaded.reference_batches:
        likelihoods = reference_likelihoods(network, loaded.examples, loaded.reference_batches)
        predictions = [
            replace(prediction, likelihood=likelihood)
            for prediction, likelihood in zip(predictions, likelihoods, strict=True)
        ]
    return list(predictions)
