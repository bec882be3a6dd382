"""A model's answers to all examples: batches -> generate -> parse, in one process or several.

Batches are cut as if one process did them all and are dealt out in turn, so that the number of
processes changes no number; likewise an interrupted evaluation goes on with the same batches.
"""

from collections.abc import Iterable, Iterator, Sequence
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
from palitune.evaluation.journal import Journal
from palitune.evaluation.perplexity import likelihoods, reference_batches
from palitune.evaluation.records import Answer, Answers
from palitune.evaluation.settings import Evaluation
from palitune.examples import Example
from palitune.models.generation import Generated, generate
from palitune.tasks import Task

Collated = tuple[Sequence[Example], Batch, list[Batch]]
"""Some examples, their prompts, and their references where these are wanted."""

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

    `title` names the progress line.
    """
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


def _answered(
    network: Any, collator: Collator, part: Part, batches: list[list[int]], settings: Evaluation
) -> Iterator[list[Answer]]:
    """Yield the answers to each batch."""
    loader: Iterable[Collated] = DataLoader(
        part.examples,  # type: ignore[arg-type]
        batch_sampler=batches,
        collate_fn=partial(_collated, collator, settings.perplexity and part.is_answered),
        num_workers=settings.workers if len(batches) > 1 else 0,
    )
    for examples, prompts, references in loader:
        written = continued(network, collator.tokenizer, prompts, examples, part.task, settings)
        found = likelihoods(network, examples, references) if references else [None] * len(written)
        yield [
            Answer(
                text=output.text,
                value=part.task.parse(output.text, example.size, output.confidence),
                finished=output.finished,
                confidence=output.confidence(0, len(output.text)),
                likelihood=likelihood,
            )
            for example, output, likelihood in zip(examples, written, found, strict=True)
        ]


def _collated(collator: Collator, with_references: bool, examples: Sequence[Example]) -> Collated:
    references = reference_batches(collator, examples) if with_references else []
    return examples, collator.prompt(examples), references


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
