"""Questions that queue while the model works are answered together."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from palitune.errors import DataError
from palitune.evaluation.answering import Question
from palitune.records import Prediction
from palitune.serving.batching import Answer, Batcher, QueueFull
from palitune.serving.engine import Engine


class FakeEngine:
    """Records its batches, and waits for `free` in each."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[str], int]] = []
        self.free = threading.Event()
        self.started = threading.Event()

    def answer_batch(
        self, name: str, questions: Sequence[str], num_beams: int
    ) -> list[Prediction | Exception]:
        self.batches.append((name, list(questions), num_beams))
        self.started.set()
        assert self.free.wait(10)
        if "fault" in questions:
            raise RuntimeError("fault")
        return [
            DataError("bad") if text == "bad" else Prediction(id="", text=text, value=text)
            for text in questions
        ]


async def batcher_with_a_busy_model(
    engine: FakeEngine, **options: Any
) -> tuple[Batcher, "asyncio.Task[None]", "asyncio.Task[Answer]"]:
    settings = {"max_batch": 3, "max_queue": 6} | options
    batcher = Batcher(cast(Engine, engine), **settings)
    worker = asyncio.create_task(batcher.work())
    first = asyncio.create_task(submit(batcher, "first"))
    await asyncio.to_thread(engine.started.wait, 10)
    return batcher, worker, first


async def submit(batcher: Batcher, text: str, adapter: str = "a", beams: int = 1) -> Answer:
    return await batcher.submit(adapter, cast(Question, text), beams)


async def close(batcher: Batcher, worker: "asyncio.Task[None]") -> None:
    worker.cancel()
    batcher.close()
    await asyncio.gather(worker, return_exceptions=True)


def test_what_waits_goes_together_up_to_the_batch_size_by_adapter_and_beams() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        batcher, worker, first = await batcher_with_a_busy_model(engine)
        tasks = [
            asyncio.create_task(submit(batcher, text, adapter, beams))
            for text, adapter, beams in [
                ("1", "a", 1),
                ("2", "b", 1),
                ("3", "a", 1),
                ("4", "a", 2),
                ("5", "a", 1),
                ("6", "a", 1),
            ]
        ]
        await asyncio.sleep(0)
        assert batcher.num_waiting == 6
        engine.free.set()
        answers = await asyncio.gather(first, *tasks)
        assert [answer.prediction.text for answer in answers] == ["first", *"123456"]
        assert engine.batches == [
            ("a", ["first"], 1),
            ("a", ["1", "3", "5"], 1),
            ("b", ["2"], 1),
            ("a", ["4"], 2),
            ("a", ["6"], 1),
        ]
        assert [answer.batch_size for answer in answers] == [1, 3, 1, 3, 1, 3, 1]
        assert all(answer.queue_seconds >= 0 for answer in answers)
        await close(batcher, worker)

    asyncio.run(scenario())


def test_an_error_of_one_question_leaves_the_others_and_the_server() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        batcher, worker, first = await batcher_with_a_busy_model(engine)
        tasks = [asyncio.create_task(submit(batcher, text)) for text in ("x", "bad", "y")]
        await asyncio.sleep(0)
        engine.free.set()
        x, bad, y = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(bad, DataError)
        assert [cast(Answer, each).prediction.text for each in (x, y)] == ["x", "y"]
        with pytest.raises(RuntimeError, match="fault"):
            await submit(batcher, "fault")
        assert (await submit(batcher, "after")).prediction.text == "after"
        await first
        await close(batcher, worker)

    asyncio.run(scenario())


def test_a_full_queue_refuses_and_a_client_that_has_gone_is_dropped() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        batcher, worker, first = await batcher_with_a_busy_model(engine, max_queue=2)
        tasks = [asyncio.create_task(submit(batcher, text)) for text in ("1", "2")]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await submit(batcher, "3")
        tasks[0].cancel()
        await asyncio.gather(tasks[0], return_exceptions=True)
        assert batcher.num_waiting == 1
        engine.free.set()
        assert (await tasks[1]).prediction.text == "2"
        assert ["1"] not in [texts for _, texts, _ in engine.batches]
        await first
        await close(batcher, worker)

    asyncio.run(scenario())
