"""Answers to prompts about images without annotations: batches -> generate -> parse."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.progress import Progress
from torch.utils.data import DataLoader

from palitune.data.collator import Batch, Collator
from palitune.distributed import collectives
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.inference import generate_batch
from palitune.records import Example, Prediction
from palitune.tasks import Task


@dataclass(frozen=True, kw_only=True)
class PredictionOutput:
    """One prompt with what the model wrote."""

    example: Example
    prediction: Prediction
    confidence: float
    """Geometric mean of the probabilities of all its tokens."""
    finished: bool
    """False where the answer was still going on at `task.max_new_tokens`."""


@dataclass(frozen=True)
class LoadedBatch:
    """A batch as a worker loads it; images that cannot be decoded are left out of it."""

    batch: Batch | None
    examples: list[Example]
    error_messages: list[str]


def stream_predictions(
    network: Any,
    processor: Any,
    examples: Sequence[Example],
    task: Task,
    settings: EvaluationConfig,
    *,
    skip_unreadable: bool = False,
) -> Iterator[PredictionOutput | DataError]:
    """Yield the answer to every example, in order, as the model writes them.

    An image that cannot be decoded is raised as DataError, or yielded where it is to be skipped.
    Several processes take batches in turn, and all is yielded in the first.
    """
    collator = Collator(processor, resize_backend=settings.resize, image_cache=settings.image_cache)
    if collator.image_cache:
        collator.image_cache.check_disk_space(examples)
    size, count = settings.batch_size, len(examples)
    batches = [list(range(start, min(start + size, count))) for start in range(0, count, size)]
    loader: Iterable[LoadedBatch] = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_sampler=batches[collectives.rank() :: collectives.world_size()],
        collate_fn=partial(load_batch, collator),
        num_workers=settings.num_workers if len(batches) > 1 else 0,
    )
    written = (_predict_batch(network, processor, task, loaded, settings) for loaded in loader)
    with Progress(transient=True, disable=not collectives.is_main_process()) as progress:
        bar = progress.add_task("predicting", total=count)
        for _ in range(0, len(batches), collectives.world_size()):
            # The last turn may be too short for all; who has nothing to do sends nothing.
            turn = [one for done in collectives.gather_to_main(next(written, [])) for one in done]
            faults = [one for one in turn if isinstance(one, DataError)]
            if fault := collectives.broadcast_from_main(
                None if skip_unreadable else next(iter(faults), None)
            ):
                raise DataError(f"{fault} (skip_unreadable=true leaves it out)")
            yield from turn
            progress.advance(bar, len(turn))


def load_batch(collator: Collator, examples: Sequence[Example]) -> LoadedBatch:
    """Tokenize prompts and load their images, without those that cannot be read."""
    try:
        return LoadedBatch(collator.collate_prompts(examples), list(examples), [])
    except DataError:
        faults = {example.id: _decode_error(collator, example) for example in examples}
    kept = [example for example in examples if not faults[example.id]]
    batch = collator.collate_prompts(kept) if kept else None
    return LoadedBatch(batch, kept, [fault for fault in faults.values() if fault])


def _decode_error(collator: Collator, example: Example) -> str:
    """Say why an image cannot be read; nothing where it can."""
    try:
        collator.collate_prompts([example])
    except DataError as mistake:
        return str(mistake)
    return ""


def _predict_batch(
    network: Any, processor: Any, task: Task, loaded_batch: LoadedBatch, settings: EvaluationConfig
) -> list[PredictionOutput | DataError]:
    """What could not be read, and the answers about the others."""
    answers: list[PredictionOutput | DataError] = [
        DataError(fault) for fault in loaded_batch.error_messages
    ]
    if loaded_batch.batch is None:
        return answers
    written = generate_batch(
        network, processor.tokenizer, loaded_batch.batch, loaded_batch.examples, task, settings
    )
    for example, output in zip(loaded_batch.examples, written, strict=True):
        value = task.parse(output.text, example.size, output.confidence)
        prediction = Prediction(id=example.id, text=output.text, value=value)
        answers.append(
            PredictionOutput(
                example=example,
                prediction=prediction,
                confidence=output.confidence(0, len(output.text)),
                finished=output.finished,
            )
        )
    return answers
