"""Answers to questions of any tasks about images, in one batch.

`evaluate`, `predict` and `serve` all answer by `answer`. Images are paths, or bytes in memory
(`palitune.data.images.io.EncodedImage`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palitune.data.collator import Batch, Collator
from palitune.models.generation.generate import generate
from palitune.records import Example, Prediction
from palitune.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt with its images, and how it is answered."""

    example: Example
    task: Task
    """Task that parses the answer."""
    constrained: bool = False
    """Generate only what the task's grammar allows."""
    max_new_tokens: int | None = None
    """Most tokens of the answer; None: the task's."""


def answer(
    network: Any, collator: Collator, questions: Sequence[Question], *, num_beams: int = 1
) -> list[Prediction]:
    """Answer questions, each with its own task, grammar and token limit, in one batch.

    Args:
        network: Model with or without adapter.
        collator: Loads the images and tokenizes the prompts.
        questions: The questions; an answer does not depend on the other questions of the batch.
        num_beams: Beams per question; 1: greedy search.

    Returns:
        The predictions, in the order of the questions.

    Raises:
        DataError: An image cannot be decoded.
        ModelError: A single object of a grammar does not fit into the token limit.
    """
    if not questions:
        return []
    prompts = collator.collate_prompts([question.example for question in questions])
    return answer_prompts(network, collator.tokenizer, questions, prompts, num_beams=num_beams)


def answer_prompts(
    network: Any, tokenizer: Any, questions: Sequence[Question], prompts: Batch, *, num_beams: int
) -> list[Prediction]:
    """Answer questions whose prompts were collated before; see `answer`."""
    grammars = [
        question.task.grammar(question.example.prefix)
        if question.constrained or question.task.requires_grammar
        else None
        for question in questions
    ]
    generations = generate(
        network,
        tokenizer,
        prompts,
        [question.max_new_tokens or question.task.max_new_tokens for question in questions],
        num_beams=num_beams,
        grammars=grammars,
    )
    return [
        Prediction(
            id=question.example.id,
            text=generation.text,
            value=question.task.parse(
                generation.text, question.example.size, generation.confidence
            ),
            finished=generation.finished,
            confidence=generation.confidence(0, len(generation.text)),
        )
        for question, generation in zip(questions, generations, strict=True)
    ]
