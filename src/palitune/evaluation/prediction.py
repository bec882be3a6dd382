"""Answers to prompts about images without annotations: batches -> generate -> parse."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.progress import Progress
from torch.utils.data import DataLoader

from palitune import processes
from palitune.data.collator import Batch, Collator
from palitune.evaluation.answering import continued
from palitune.evaluation.settings import Evaluation
from palitune.examples import DataError, Example, Prediction
from palitune.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One prompt with what the model wrote."""

    example: Example
    prediction: Prediction
    confidence: float
    """Geometric mean of the probabilities of all its tokens."""
    finished: bool
    """False where the answer was still going on at `task.max_new_tokens`."""


@dataclass(frozen=True)
class Loaded:
    """A batch as a worker loads it; images that cannot be decoded are left out of it."""

    batch: Batch | None
    examples: list[Example]
    unreadable: list[str]


def predict(
    network: Any,
    processor: Any,
    examples: Sequence[Example],
    task: Task,
    settings: Evaluation,
    *,
    skip_unreadable: bool = False,
) -> Iterator[Answered | DataError]:
    """Yield the answer to every example, in order, as the model writes them.

    An image that cannot be decoded is raised as DataError, or yielded where it is to be skipped.
    Several processes take batches in turn, and all is yielded in the first.
    """
    collator = Collator(processor, images=settings.images, image_store=settings.image_store)
    if collator.store:
        collator.store.announce(examples)
    size, count = settings.batch_size, len(examples)
    batches = [list(range(start, min(start + size, count))) for start in range(0, count, size)]
    loader: Iterable[Loaded] = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_sampler=batches[processes.rank() :: processes.count()],
        collate_fn=partial(load, collator),
        num_workers=settings.workers if len(batches) > 1 else 0,
    )
    written = (_answers(network, processor, task, loaded, settings) for loaded in loader)
    with Progress(transient=True, disable=not processes.is_first()) as progress:
        bar = progress.add_task("predicting", total=count)
        for _ in range(0, len(batches), processes.count()):
            # The last turn may be too short for all; who has nothing to do sends nothing.
            turn = [one for done in processes.gathered(next(written, [])) for one in done]
            faults = [one for one in turn if isinstance(one, DataError)]
            if fault := processes.from_first(None if skip_unreadable else next(iter(faults), None)):
                raise DataError(f"{fault} (skip_unreadable=true leaves it out)")
            yield from turn
            progress.advance(bar, len(turn))


def load(collator: Collator, examples: Sequence[Example]) -> Loaded:
    """Tokenize prompts and load their images, without those that cannot be read."""
    try:
        return Loaded(collator.prompt(examples), list(examples), [])
    except DataError:
        faults = {example.id: _fault(collator, example) for example in examples}
    kept = [example for example in examples if not faults[example.id]]
    batch = collator.prompt(kept) if kept else None
    return Loaded(batch, kept, [fault for fault in faults.values() if fault])


def _fault(collator: Collator, example: Example) -> str:
    """Say why an image cannot be read; nothing where it can."""
    try:
        collator.prompt([example])
    except DataError as mistake:
        return str(mistake)
    return ""


def _answers(
    network: Any, processor: Any, task: Task, loaded: Loaded, settings: Evaluation
) -> list[Answered | DataError]:
    """What could not be read, and the answers about the others."""
    answers: list[Answered | DataError] = [DataError(fault) for fault in loaded.unreadable]
    if loaded.batch is None:
        return answers
    written = continued(network, processor.tokenizer, loaded.batch, loaded.examples, task, settings)
    for example, output in zip(loaded.examples, written, strict=True):
        value = task.parse(output.text, example.size, output.confidence)
        prediction = Prediction(id=example.id, text=output.text, value=value)
        answers.append(
            Answered(
                example=example,
                prediction=prediction,
                confidence=output.confidence(0, len(output.text)),
                finished=output.finished,
            )
        )
    return answers
