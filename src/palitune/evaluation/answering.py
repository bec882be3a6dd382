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

from palitune import processes
from palitune.data.collator import Batch, Collator
from palitune.data.dataset import Part
from palitune.evaluation.choosing import chosen, options_batch
from palitune.evaluation.journal import Journal
from palitune.evaluation.perplexity import likelihoods, reference_batches
from palitune.evaluation.records import Answer, Answers
from palitune.evaluation.settings import Choices, Evaluation
from palitune.examples import DataError, Example
from palitune.models.generation import Generated, generate
from palitune.tasks import Task

_COLUMNS = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TimeElapsedColumn(),
    TextColumn("left"),
    TimeRemainingColumn(),
)


def answer(
    network: Any,
    processor: Any,
    parts: Sequence[Part],
    settings: Evaluation,
    *,
    journal: Journal | None = None,
    title: str = "",
) -> Answers:
    """Generate an answer to every example of every part; those in the journal are there already.

    `title` names the progress line. Raises DataError where choices are to be compared and no task
    knows any.
    """
    _check_choices(parts, settings)
    collator = Collator(processor, images=settings.images, image_store=settings.image_store)
    kept: dict[str, dict[str, Answer]] = journal.known if journal else {}
    with Progress(*_COLUMNS, transient=True, disable=not processes.is_first()) as progress:
        answers = []
        for part in parts:
            known = dict(kept.get(part.name, {}))
            if collator.store:
                collator.store.announce(part.examples[: judged(part, settings)])
            batches = _pending(part, settings, processes.from_first(set(known)))
            own = batches[processes.rank() :: processes.count()]
            written = _answered(network, collator, part, own, settings)
            label = " ".join(["evaluating", part.name, title]).rstrip()
            tracked = progress.add_task(label, total=sum(map(len, batches)))
            for start in range(0, len(batches), processes.count()):
                turn = batches[start : start + processes.count()]
                # The last turn may be too short for all; who has nothing to do sends nothing.
                for batch, done in zip(turn, processes.gathered(next(written, [])), strict=False):
                    examples = [part.examples[index] for index in batch]
                    known |= {one.id: a for one, a in zip(examples, done, strict=True)}
                    if journal:
                        journal.add(part.name, examples, done)
                    progress.advance(tracked, len(batch))
            ids = (part.examples[index].id for index in range(judged(part, settings)))
            answers.append([known[key] for key in ids] if processes.is_first() else [])
    return answers


def _check_choices(parts: Sequence[Part], settings: Evaluation) -> None:
    if settings.choices is Choices.generate:
        return
    judgings = ((part, index) for part in parts for index in range(judged(part, settings)))
    if not any(part.task.options(part.examples[index]) for part, index in judgings):
        raise DataError(
            f"{parts[0].examples[0].place}: evaluation.choices=likelihood needs examples with "
            "choices, and neither this one nor any other has some; set evaluation.choices=generate"
        )


def judged(part: Part, settings: Evaluation) -> int:
    """Return how many examples of a part are judged: the first ones."""
    return min(settings.limit or len(part.examples), len(part.examples))


def _pending(part: Part, settings: Evaluation, known: set[str]) -> list[list[int]]:
    """Cut the examples into batches; leave out those whose answers are all known."""
    count = judged(part, settings)
    starts = range(0, count, settings.batch_size)
    batches = [list(range(start, min(start + settings.batch_size, count))) for start in starts]
    if not known:
        return batches
    return [batch for batch in batches if not known >= {part.examples[i].id for i in batch}]


@dataclass(frozen=True)
class _Collated:
    """Some examples, as a worker loads them."""

    choosing: list[Example]
    """Those that are answered by the likeliest of their choices."""
    options: Batch | None
    asked: list[Example]
    """The others, which are answered freely."""
    prompts: Batch | None
    order: list[int]
    """Of each example, its place among both, the first ones first."""
    references: list[Batch]
    """Of all examples, where these are wanted."""


def _answered(
    network: Any, collator: Collator, part: Part, batches: list[list[int]], settings: Evaluation
) -> Iterator[list[Answer]]:
    """Yield the answers to each batch."""
    loader: Iterable[tuple[Sequence[Example], _Collated]] = DataLoader(
        part.examples,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=partial(_collated, collator, part, settings),
        num_workers=settings.workers if len(batches) > 1 else 0,
    )
    for examples, loaded in loader:
        answers = chosen(network, part.task, loaded.choosing, loaded.options)
        if loaded.prompts is not None:
            written = continued(
                network, collator.tokenizer, loaded.prompts, loaded.asked, part.task, settings
            )
            answers += map(partial(_read, part.task), loaded.asked, written)
        answers = [answers[place] for place in loaded.order]
        if loaded.references:
            found = likelihoods(network, examples, loaded.references)
            pairs = zip(answers, found, strict=True)
            answers = [replace(answer, likelihood=likelihood) for answer, likelihood in pairs]
        yield answers


def _collated(
    collator: Collator, part: Part, settings: Evaluation, examples: Sequence[Example]
) -> tuple[Sequence[Example], _Collated]:
    by_likelihood = settings.choices is Choices.likelihood
    is_choice = [by_likelihood and bool(part.task.options(example)) for example in examples]
    places = sorted(range(len(examples)), key=lambda index: not is_choice[index])
    choosing = [examples[index] for index in places if is_choice[index]]
    asked = [examples[index] for index in places if not is_choice[index]]
    with_references = settings.perplexity and part.is_answered
    return examples, _Collated(
        choosing=choosing,
        options=options_batch(collator, part.task, choosing),
        asked=asked,
        prompts=collator.prompt(asked) if asked else None,
        order=[places.index(index) for index in range(len(examples))],
        references=reference_batches(collator, examples) if with_references else [],
    )


def _read(task: Task, example: Example, output: Generated) -> Answer:
    return Answer(
        text=output.text,
        value=task.parse(output.text, example.size, output.confidence),
        finished=output.finished,
        confidence=output.confidence(0, len(output.text)),
    )


def continued(
    network: Any,
    tokenizer: Any,
    prompts: Batch,
    examples: Sequence[Example],
    task: Task,
    settings: Evaluation,
) -> list[Generated]:
    """Continue the prompts of examples as task and settings say."""
    by_grammar = settings.grammar or task.needs_grammar
    grammars = [task.grammar(example.prefix) for example in examples] if by_grammar else None
    return generate(
        network, tokenizer, prompts, task.max_new_tokens, beams=settings.beams, grammars=grammars
    )
