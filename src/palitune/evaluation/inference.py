"""A model's answers to all examples: batches -> generate -> parse, in one process or several.

Batches are cut as if one process did them all and are dealt out in turn, so that the number of
processes changes no number; likewise an interrupted evaluation goes on with the same batches.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

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
from palitune.data.dataset import TaskDataset
from palitune.distributed import collectives
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig, MultipleChoiceMode
from palitune.evaluation.multiple_choice import collate_choices, pick_choices
from palitune.evaluation.partial_predictions import PredictionCache
from palitune.evaluation.perplexity import reference_batches, reference_likelihoods
from palitune.evaluation.prediction_records import PredictionRecord, PredictionsByDataset
from palitune.models.generation.generate import Generation, generate
from palitune.records import Example
from palitune.tasks import Task

_PROGRESS_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)


def generate_predictions(
    network: Any,
    processor: Any,
    datasets: Sequence[TaskDataset],
    settings: EvaluationConfig,
    *,
    prediction_cache: PredictionCache | None = None,
    title: str = "",
) -> PredictionsByDataset:
    """Generate an answer to every example of every part; those in the journal are there already.

    `title` names the progress line. Raises DataError where choices are to be compared and no task
    knows any.
    """
    _check_multiple_choice(datasets, settings)
    collator = Collator(processor, resize_backend=settings.resize, image_cache=settings.image_cache)
    kept: dict[str, dict[str, PredictionRecord]] = (
        prediction_cache.predictions if prediction_cache else {}
    )
    with Progress(
        *_PROGRESS_COLUMNS, transient=True, disable=not collectives.is_main_process()
    ) as progress:
        answers = []
        for part in datasets:
            known = dict(kept.get(part.name, {}))
            if collator.image_cache:
                collator.image_cache.check_disk_space(part.examples[: num_examples(part, settings)])
            batches = _pending_batches(part, settings, collectives.broadcast_from_main(set(known)))
            own = batches[collectives.rank() :: collectives.world_size()]
            written = _predict_batches(network, collator, part, own, settings)
            label = " ".join(["evaluating", part.name, title]).rstrip()
            tracked = progress.add_task(label, total=sum(map(len, batches)))
            for start in range(0, len(batches), collectives.world_size()):
                turn = batches[start : start + collectives.world_size()]
                # The last turn may be too short for all; who has nothing to do sends nothing.
                for batch, done in zip(
                    turn, collectives.gather_to_main(next(written, [])), strict=False
                ):
                    examples = [part.examples[index] for index in batch]
                    known |= {one.id: a for one, a in zip(examples, done, strict=True)}
                    if prediction_cache:
                        prediction_cache.add(part.name, examples, done)
                    progress.advance(tracked, len(batch))
            ids = (part.examples[index].id for index in range(num_examples(part, settings)))
            answers.append([known[key] for key in ids] if collectives.is_main_process() else [])
    return answers


def _check_multiple_choice(datasets: Sequence[TaskDataset], settings: EvaluationConfig) -> None:
    if settings.multiple_choice is MultipleChoiceMode.generate:
        return
    judgings = ((part, index) for part in datasets for index in range(num_examples(part, settings)))
    if not any(part.task.choice_suffixes(part.examples[index]) for part, index in judgings):
        raise DataError(
            f"{datasets[0].examples[0].location}: evaluation.multiple_choice=loglikelihood needs examples with "
            "choices, and neither this one nor any other has some; set evaluation.multiple_choice=generate"
        )


def num_examples(dataset: TaskDataset, settings: EvaluationConfig) -> int:
    """Return how many examples of a part are judged: the first ones."""
    return min(settings.max_samples or len(dataset.examples), len(dataset.examples))


def _pending_batches(
    dataset: TaskDataset, settings: EvaluationConfig, cached_ids: set[str]
) -> list[list[int]]:
    """Cut the examples into batches; leave out those whose answers are all known."""
    count = num_examples(dataset, settings)
    starts = range(0, count, settings.batch_size)
    batches = [list(range(start, min(start + settings.batch_size, count))) for start in starts]
    if not cached_ids:
        return batches
    return [batch for batch in batches if not cached_ids >= {dataset.examples[i].id for i in batch}]


@dataclass(frozen=True)
class _InferenceBatch:
    """Some examples, as a worker loads them."""

    choice_examples: list[Example]
    """Those that are answered by the likeliest of their choices."""
    choice_batch: Batch | None
    prompt_examples: list[Example]
    """The others, which are answered freely."""
    prompt_batch: Batch | None
    order: list[int]
    """Of each example, its place among both, the first ones first."""
    references: list[Batch]
    """Of all examples, where these are wanted."""


def _predict_batches(
    network: Any,
    collator: Collator,
    dataset: TaskDataset,
    batches: list[list[int]],
    settings: EvaluationConfig,
) -> Iterator[list[PredictionRecord]]:
    """Yield the answers to each batch."""
    loader: Iterable[tuple[Sequence[Example], _InferenceBatch]] = DataLoader(
        dataset.examples,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=partial(_collate, collator, dataset, settings),
        num_workers=settings.num_workers if len(batches) > 1 else 0,
    )
    for examples, loaded in loader:
        answers = pick_choices(network, dataset.task, loaded.choice_examples, loaded.choice_batch)
        if loaded.prompt_batch is not None:
            written = generate_batch(
                network,
                collator.tokenizer,
                loaded.prompt_batch,
                loaded.prompt_examples,
                dataset.task,
                settings,
            )
            answers += map(
                partial(_parse_generation, dataset.task), loaded.prompt_examples, written
            )
        answers = [answers[place] for place in loaded.order]
        if loaded.references:
            found = reference_likelihoods(network, examples, loaded.references)
            pairs = zip(answers, found, strict=True)
            answers = [replace(answer, likelihood=likelihood) for answer, likelihood in pairs]
        yield answers


def _collate(
    collator: Collator,
    dataset: TaskDataset,
    settings: EvaluationConfig,
    examples: Sequence[Example],
) -> tuple[Sequence[Example], _InferenceBatch]:
    by_likelihood = settings.multiple_choice is MultipleChoiceMode.loglikelihood
    is_choice = [
        by_likelihood and bool(dataset.task.choice_suffixes(example)) for example in examples
    ]
    places = sorted(range(len(examples)), key=lambda index: not is_choice[index])
    choosing = [examples[index] for index in places if is_choice[index]]
    asked = [examples[index] for index in places if not is_choice[index]]
    with_references = settings.perplexity and dataset.has_references
    return examples, _InferenceBatch(
        choice_examples=choosing,
        choice_batch=collate_choices(collator, dataset.task, choosing),
        prompt_examples=asked,
        prompt_batch=collator.collate_prompts(asked) if asked else None,
        order=[places.index(index) for index in range(len(examples))],
        references=reference_batches(collator, examples) if with_references else [],
    )


def _parse_generation(task: Task, example: Example, generation: Generation) -> PredictionRecord:
    return PredictionRecord(
        text=generation.text,
        value=task.parse(generation.text, example.size, generation.confidence),
        finished=generation.finished,
        confidence=generation.confidence(0, len(generation.text)),
    )


def generate_batch(
    network: Any,
    tokenizer: Any,
    prompts: Batch,
    examples: Sequence[Example],
    task: Task,
    settings: EvaluationConfig,
) -> list[Generation]:
    """Continue the prompts of examples as task and settings say."""
    by_grammar = settings.constrained_decoding or task.requires_grammar
    grammars = [task.grammar(example.prefix) for example in examples] if by_grammar else None
    return generate(
        network,
        tokenizer,
        prompts,
        task.max_new_tokens,
        num_beams=settings.num_beams,
        grammars=grammars,
    )
