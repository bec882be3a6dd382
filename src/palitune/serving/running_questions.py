"""Questions to one adapter that are answered together, and join and leave between steps."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

from palitune.data.collator import Collator
from palitune.errors import DataError, ModelError
from palitune.evaluation.answering import Question, answer
from palitune.models.generation.running_batch import Prompt, RunningBatch
from palitune.records import Prediction

_logger = logging.getLogger(__name__)

Result = Prediction | Exception
"""A prediction, or the error that its question alone causes."""


@dataclass
class Progress:
    """Result of a step, by the key of the question."""

    tokens: dict[Any, int] = field(default_factory=dict)
    """The next token of each answer, EOS included."""
    results: dict[Any, Result] = field(default_factory=dict)
    """Answers that are complete, and errors."""


class RunningQuestions:
    """Greedy answers of one adapter; for one thread.

    A fault while several questions are answered leads to each being answered alone, so that only
    the cause fails.

    Args:
        network: The model.
        collator: Loads images and tokenizes prompts.
        adapter: Context in which the adapter is active; it is left by `close`.
    """

    def __init__(
        self, network: Any, collator: Collator, adapter: AbstractContextManager[Any]
    ) -> None:
        self._network, self._collator = network, collator
        self._stack = ExitStack()
        self._stack.enter_context(adapter)
        self._batch = self._stack.enter_context(RunningBatch(network, collator.tokenizer))
        self._running: dict[Any, tuple[int, Question]] = {}
        """Number in the batch and question, by key."""

    def close(self) -> None:
        """Give up the unfinished questions."""
        self._stack.close()

    def step(self, joining: Mapping[Any, Question], leaving: Sequence[Any]) -> Progress:
        """Generate one token of every question.

        Args:
            joining: New questions by their keys.
            leaving: Keys of unfinished questions to give up.
        """
        for key in leaving:
            number, _ = self._running.pop(key)
            self._batch.leave(number)
        progress = Progress()
        try:
            self._join(joining)
        except Exception:  # of one of the questions, or out of memory
            for key, question in joining.items():
                try:
                    self._join({key: question})
                except Exception as error:
                    progress.results[key] = logged(error)
        if self._running:
            self._generate(progress)
        return progress

    def _join(self, joining: Mapping[Any, Question]) -> None:
        if not joining:
            return
        questions = joining.values()
        prompts = self._collator.collate_prompts([question.example for question in questions])
        numbers = self._batch.join(
            prompts, [Prompt(question.token_limit, question.grammar) for question in questions]
        )
        pairs = zip(numbers, questions, strict=True)
        self._running |= dict(zip(joining, pairs, strict=True))

    def _generate(self, progress: Progress) -> None:
        try:
            step = self._batch.step()
        except Exception:
            _logger.exception("a step of %d questions failed", len(self._running))
            self._answer_each_alone(progress)
            return
        keys = {number: key for key, (number, _) in self._running.items()}
        progress.tokens = {keys[number]: token for number, token in step.tokens.items()}
        for number, generation in step.finished.items():
            _, question = self._running.pop(keys[number])
            try:
                progress.results[keys[number]] = question.to_prediction(generation)
            except Exception as error:
                progress.results[keys[number]] = logged(error)

    def _answer_each_alone(self, progress: Progress) -> None:
        for key, (_, question) in self._running.items():
            progress.results[key] = answer_alone(self._network, self._collator, question)
        self._running = {}
        tokenizer = self._collator.tokenizer
        self._batch = self._stack.enter_context(RunningBatch(self._network, tokenizer))


def answer_alone(
    network: Any, collator: Collator, question: Question, *, num_beams: int = 1
) -> Result:
    """Answer a question in a batch of its own, or return the error."""
    try:
        [prediction] = answer(network, collator, [question], num_beams=num_beams)
    except Exception as error:  # a fault of ours must not end the server
        return logged(error)
    return prediction


def logged(error: Exception) -> Exception:
    """Log an error unless the request caused it; return it."""
    if not isinstance(error, DataError | ModelError):
        _logger.error("a question failed", exc_info=error)
    return error
