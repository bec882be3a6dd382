"""Continuous batching: requests queue while the model works, and then go together.

There is no waiting window. When the model is free, the oldest request is taken with all others for
the same adapter and number of beams, up to the batch size.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from palitune.evaluation.answering import Question
from palitune.records import Prediction
from palitune.serving.engine import Engine

_logger = logging.getLogger(__name__)
T = TypeVar("T")


class QueueFull(Exception):
    """Too many requests wait."""


@dataclass(frozen=True)
class Answer:
    """A prediction, and how it came about."""

    prediction: Prediction
    queue_seconds: float
    model_seconds: float
    """Time of the batch."""
    batch_size: int


@dataclass(eq=False)
class _Waiting:
    adapter: str
    question: Question
    num_beams: int
    future: "asyncio.Future[Answer]"
    arrived: float


class Batcher:
    """Feeds one engine from one queue; all methods are called in the event loop.

    Args:
        engine: The model.
        max_batch: Most questions per batch.
        max_queue: Most questions that wait.
        on_batch: Called with the size of every batch.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch: int,
        max_queue: int,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.engine = engine
        self._max_batch, self._max_queue = max_batch, max_queue
        self._on_batch = on_batch
        self._waiting: list[_Waiting] = []
        self._arrival = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    async def submit(self, adapter: str, question: Question, num_beams: int) -> Answer:
        """Return the answer. If the caller is cancelled, a waiting question is dropped.

        Raises:
            QueueFull: Too many questions wait.
            DataError: The question cannot be answered; likewise ModelError.
        """
        if len(self._waiting) >= self._max_queue:
            raise QueueFull
        future = asyncio.get_running_loop().create_future()
        waiting = _Waiting(adapter, question, num_beams, future, time.monotonic())
        self._waiting.append(waiting)
        self._arrival.set()
        try:
            answer: Answer = await future
            return answer
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function between two batches, in the model's thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, function, *arguments)

    async def work(self) -> None:
        """Answer questions until cancelled."""
        while True:
            await self._arrival.wait()
            batch = self._take_batch()
            if not batch:
                self._arrival.clear()
                continue
            self._on_batch(len(batch))
            started = time.monotonic()
            results = await self.call(self._answer, batch)
            seconds = time.monotonic() - started
            for waiting, result in zip(batch, results, strict=True):
                if waiting.future.done():  # the client has gone, or its time was up
                    continue
                if isinstance(result, Prediction):
                    queued = started - waiting.arrived
                    waiting.future.set_result(Answer(result, queued, seconds, len(batch)))
                else:
                    waiting.future.set_exception(result)

    def close(self) -> None:
        """Stop the model's thread; questions that still wait are cancelled."""
        for waiting in self._waiting:
            waiting.future.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _take_batch(self) -> list[_Waiting]:
        self._waiting = [waiting for waiting in self._waiting if not waiting.future.done()]
        if not self._waiting:
            return []
        first = self._waiting[0]
        kind = first.adapter, first.num_beams
        batch = [item for item in self._waiting if (item.adapter, item.num_beams) == kind]
        batch = batch[: self._max_batch]
        self._waiting = [item for item in self._waiting if item not in batch]
        return batch

    def _answer(self, batch: Sequence[_Waiting]) -> list[Prediction | Exception]:
        questions = [waiting.question for waiting in batch]
        try:
            return self.engine.answer_batch(batch[0].adapter, questions, batch[0].num_beams)
        except Exception as error:  # a fault of ours must not end the server
            _logger.exception("a batch of %d questions failed", len(batch))
            return [error] * len(batch)
