"""Continuous batching: requests join the batch that the model works on.

There is no waiting window. Greedy answers of one adapter are generated together; between two steps
finished ones leave and new ones join, unless an older question waits for another adapter. When the
batch is empty, that of the oldest question begins. Beam searches run as closed batches.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from palitune.evaluation.answering import Question
from palitune.records import Prediction
from palitune.serving.engine import Engine
from palitune.serving.running_questions import Progress, Result, RunningQuestions, logged

T = TypeVar("T")


class QueueFull(Exception):
    """Too many requests wait."""


@dataclass(frozen=True)
class Answer:
    """A prediction, and how it came about."""

    prediction: Prediction
    queue_seconds: float
    model_seconds: float
    """Time in the batch."""
    batch_size: int
    """Questions in the batch when this one joined."""


@dataclass(eq=False)
class _Waiting:
    adapter: str
    question: Question
    num_beams: int
    future: "asyncio.Future[Answer]"
    arrived: float
    on_token: Callable[[int], None] = lambda token: None
    joined: float = 0.0
    batch_size: int = 0

    @property
    def kind(self) -> tuple[str, int]:
        """Adapter and beams, which the questions of a batch share."""
        return self.adapter, self.num_beams

    def set_result(self, result: Result) -> None:
        """Complete the request, unless its client has gone or its time was up."""
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
            return
        queued, seconds = self.joined - self.arrived, time.monotonic() - self.joined
        self.future.set_result(Answer(result, queued, seconds, self.batch_size))


class Batcher:
    """Feeds one engine from one queue; all methods are called in the event loop.

    Args:
        engine: The model.
        max_batch: Most questions per batch.
        max_queue: Most questions that wait.
        on_batch: Called with the size of a batch when questions join it.
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
        self._model = asyncio.Lock()
        """Held while a batch is generated, or another function uses the model."""
        self._num_calls = 0
        """Functions that use the model or wait for it."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    async def submit(
        self,
        adapter: str,
        question: Question,
        num_beams: int,
        on_token: Callable[[int], None] = lambda token: None,
    ) -> Answer:
        """Return the answer. If the caller is cancelled, the question is dropped.

        Args:
            adapter: Adapter that answers.
            question: The question.
            num_beams: Beams; 1: greedy search.
            on_token: Called with each token as it is generated, EOS included; not with beams.

        Raises:
            QueueFull: Too many questions wait.
            DataError: The question cannot be answered; likewise ModelError.
        """
        if len(self._waiting) >= self._max_queue:
            raise QueueFull
        future = asyncio.get_running_loop().create_future()
        waiting = _Waiting(adapter, question, num_beams, future, time.monotonic(), on_token)
        self._waiting.append(waiting)
        self._arrival.set()
        try:
            answer: Answer = await future
            return answer
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function in the model's thread, after the current batch."""
        self._num_calls += 1
        try:
            async with self._model:
                return await self._in_thread(function, *arguments)
        finally:
            self._num_calls -= 1

    async def work(self) -> None:
        """Answer questions until cancelled."""
        while True:
            await self._arrival.wait()
            async with self._model:
                batch = self._take_batch()
                if not batch:
                    self._arrival.clear()
                    continue
                answer = self._answer_greedily if batch[0].num_beams == 1 else self._answer_closed
                await answer(batch)

    async def _answer_closed(self, batch: Sequence[_Waiting]) -> None:
        """Answer a batch that nothing joins."""
        self._on_join(batch, len(batch))
        adapter, num_beams = batch[0].kind
        questions = [waiting.question for waiting in batch]
        results: Sequence[Result]
        try:
            results = await self._in_thread(self.engine.answer_batch, adapter, questions, num_beams)
        except Exception as error:  # a fault of ours must not end the server
            results = [logged(error)] * len(batch)
        for waiting, result in zip(batch, results, strict=True):
            waiting.set_result(result)

    async def _answer_greedily(self, batch: Sequence[_Waiting]) -> None:
        """Answer a batch, and the questions that join it, until it is empty."""
        kind = batch[0].kind
        joining, running = [*batch], list[_Waiting]()
        questions: RunningQuestions | None = None
        try:
            questions = await self._in_thread(self.engine.start, kind[0])
            while joining or running:
                leaving = [waiting for waiting in running if waiting.future.done()]
                running = [waiting for waiting in running if waiting not in leaving] + joining
                self._on_join(joining, len(running))
                new = {waiting: waiting.question for waiting in joining}
                progress = await self._in_thread(questions.step, new, leaving)
                _deliver(progress)
                running = [waiting for waiting in running if waiting not in progress.results]
                joining = self._take_joining(kind, self._max_batch - len(running))
        except Exception as error:  # a fault of ours must not end the server
            for waiting in {*running, *joining}:
                waiting.set_result(logged(error))
        finally:
            if questions is not None:  # also when the server ends in between
                closing = self._thread.submit(questions.close)
                await asyncio.shield(asyncio.wrap_future(closing))

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _on_join(self, joining: Sequence[_Waiting], batch_size: int) -> None:
        for waiting in joining:
            waiting.joined, waiting.batch_size = time.monotonic(), batch_size
        if joining:
            self._on_batch(batch_size)

    def close(self) -> None:
        """Stop the model's thread; questions that still wait are cancelled."""
        for waiting in self._waiting:
            waiting.future.cancel()
        self._thread.shutdown(wait=True)

    def _take_batch(self) -> list[_Waiting]:
        """Take the oldest question, and others of its kind up to the batch size."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.future.done()]
        return self._take(self._waiting[0].kind, self._max_batch) if self._waiting else []

    def _take_joining(self, kind: tuple[str, int], places: int) -> list[_Waiting]:
        """Take questions of a kind, unless an older question or a call waits for the model."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.future.done()]
        if not self._waiting or self._waiting[0].kind != kind or self._num_calls:
            return []
        return self._take(kind, places)

    def _take(self, kind: tuple[str, int], places: int) -> list[_Waiting]:
        taken = [waiting for waiting in self._waiting if waiting.kind == kind][:places]
        self._waiting = [waiting for waiting in self._waiting if waiting not in taken]
        return taken


def _deliver(progress: Progress) -> None:
    for waiting, token in progress.tokens.items():
        waiting.on_token(token)
    for waiting, result in progress.results.items():
        waiting.set_result(result)
