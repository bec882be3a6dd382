"""Answers to questions of any tasks about images, in one batch.

`evaluate`, `predict` and `serve` all answer by `answer`. Images are paths, or bytes in memory
(`palitune.data.images.io.EncodedImage`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palitune.codec.grammar import ObjectGrammar
from palitune.codec.json_fields import JsonGrammar
from palitune.data.collator import Batch, Collator
from palitune.evaluation.tiles.config import InferenceTiles
from palitune.models.generation.generate import Generation, generate
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
    tiles: InferenceTiles | None = None
    """Tiles that the caller of `answer` cuts the question into; None: the whole image."""

    @property
    def token_limit(self) -> int:
        """Most tokens of the answer."""
        return self.max_new_tokens or self.task.max_new_tokens

    @property
    def grammar(self) -> ObjectGrammar | JsonGrammar | None:
        """Grammar of the answer; None allows any text."""
        if self.constrained or self.task.requires_grammar:
            return self.task.grammar(self.example.prefix)
        return None

    def to_prediction(self, generation: Generation) -> Prediction:
        """Parse the generated answer."""
        text, confidence = generation.text, generation.confidence
        return Prediction(
            id=self.example.id,
            text=text,
            value=self.task.parse(text, self.example.size, confidence),
            finished=generation.finished,
            confidence=confidence(0, len(text)),
            field_confidences=self.task.field_confidences(text, confidence),
            repairs=self.task.repairs(text),
        )


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
    network: Any,
    tokenizer: Any,
    questions: Sequence[Question],
    prompts: Batch,
    *,
    num_beams: int,
    cuda_graphs: bool = False,
) -> list[Prediction]:
    """Answer questions whose prompts were collated before; see `answer`."""
    generations = generate(
        network,
        tokenizer,
        prompts,
        [question.token_limit for question in questions],
        num_beams=num_beams,
        grammars=[question.grammar for question in questions],
        cuda_graphs=cuda_graphs,
    )
    pairs = zip(questions, generations, strict=True)
    return [question.to_prediction(generation) for question, generation in pairs]
