"""Questions join the batch that the model works on, and leave it when they are answered."""

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from palitune.errors import DataError, ModelError
from palitune.evaluation.answering import Question
from palitune.records import Prediction
from palitune.serving.batching import Answer, Batcher, QueueFull
from palitune.serving.engine import Engine
from palitune.serving.running_questions import Progress, Result


class FakeEngine:
    """Answers a question with its own text, one character per step; a step waits for `allow`."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, list[str]]] = []
        """Adapter and questions of every step; of a beam search, of the whole batch."""
        self.allowed = threading.Semaphore(0)
        self.started = threading.Event()
        self.num_open = 0

    def allow(self, steps: int = 1000) -> None:
        self.allowed.release(steps)

    def begin_step(self, name: str, texts: list[str]) -> None:
        self.steps.append((name, texts))
        self.started.set()
        assert self.allowed.acquire(timeout=10)

    def answer_batch(self, name: str, questions: Sequence[str], num_beams: int) -> list[Result]:
        self.begin_step(f"{name}, {num_beams} beams", [*questions])
        return [Prediction(id="", text=text, value=text) for text in questions]

    def start(self, name: str) -> "FakeRunning":
        if name == "removed":
            raise ModelError("removed was removed.")
        self.num_open += 1
        return FakeRunning(self, name)


class FakeRunning:
    def __init__(self, engine: FakeEngine, name: str) -> None:
        self.engine, self.name = engine, name
        self.running: dict[Any, tuple[str, int]] = {}

    def step(self, joining: Mapping[Any, Any], leaving: Sequence[Any]) -> Progress:
        for key in leaving:
            del self.running[key]
        progress = Progress()
        for key, text in joining.items():
            if text == "bad":
                progress.results[key] = DataError("bad")
            else:
                self.running[key] = text, 0
        self.engine.begin_step(self.name, [text for text, _ in self.running.values()])
        if any(text == "fault" for text, _ in self.running.values()):
            raise RuntimeError("fault")
        for key, (text, place) in [*self.running.items()]:
            progress.tokens[key] = ord(text[place])
            self.running[key] = text, place + 1
            if place + 1 == len(text):
                progress.results[key] = Prediction(id="", text=text, value=text)
                del self.running[key]
        return progress

    def close(self) -> None:
        self.engine.num_open -= 1


async def batcher_with_a_busy_model(
    engine: FakeEngine, first: str = "1", **options: Any
) -> tuple[Batcher, "asyncio.Task[None]", "asyncio.Task[Answer]"]:
    settings = {"max_batch": 3, "max_queue": 6} | options
    batcher = Batcher(cast(Engine, engine), **settings)
    worker = asyncio.create_task(batcher.work())
    running = asyncio.create_task(submit(batcher, first))
    await asyncio.to_thread(engine.started.wait, 10)
    return batcher, worker, running


async def submit(
    batcher: Batcher, text: str, adapter: str = "a", beams: int = 1, **options: Any
) -> Answer:
    return await batcher.submit(adapter, cast(Question, text), beams, **options)


async def close(batcher: Batcher, worker: "asyncio.Task[None]", engine: FakeEngine) -> None:
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    batcher.close()
    assert engine.num_open == 0


def test_questions_join_and_leave_between_steps_up_to_the_batch_size() -> None:
    async def scenario() -> None:
        engine, tokens = FakeEngine(), list[str]()
        batcher, worker, first = await batcher_with_a_busy_model(engine, "abcd")
        tasks = [
            asyncio.create_task(
                submit(batcher, text, on_token=lambda token: tokens.append(chr(token)))
            )
            for text in ("x", "yy", "z", "w")
        ]
        await asyncio.sleep(0)
        assert batcher.num_waiting == 4
        engine.allow()
        answers = await asyncio.gather(first, *tasks)
        assert [answer.prediction.text for answer in answers] == ["abcd", "x", "yy", "z", "w"]
        assert engine.steps == [
            ("a", ["abcd"]),
            ("a", ["abcd", "x", "yy"]),
            ("a", ["abcd", "yy", "z"]),
            ("a", ["abcd", "w"]),
        ]
        assert "".join(tokens) == "xyyzw"
        assert [answer.batch_size for answer in answers] == [1, 3, 3, 3, 2]
        assert all(answer.queue_seconds >= 0 for answer in answers)
        await close(batcher, worker, engine)

    asyncio.run(scenario())


def test_nothing_joins_while_an_older_question_waits_for_another_adapter() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        batcher, worker, first = await batcher_with_a_busy_model(engine, "abc")
        order = [("1", "b", 1), ("2", "a", 1), ("3", "a", 2), ("4", "a", 2), ("5", "b", 1)]
        tasks = [asyncio.create_task(submit(batcher, *item)) for item in order]
        await asyncio.sleep(0)
        engine.allow()
        await asyncio.gather(first, *tasks)
        assert engine.steps == [
            *[("a", ["abc"])] * 3,
            ("b", ["1", "5"]),
            ("a", ["2"]),
            ("a, 2 beams", ["3", "4"]),
        ]
        await close(batcher, worker, engine)

    asyncio.run(scenario())


def test_a_call_waits_for_the_running_batch_and_nothing_joins_before_it() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        batcher, worker, first = await batcher_with_a_busy_model(engine, "abc")
        order: list[str] = []
        call = asyncio.create_task(batcher.call(lambda: order.append("call")))
        after = asyncio.create_task(submit(batcher, "x"))
        for task in (first, after):
            task.add_done_callback(lambda task: order.append(task.result().prediction.text))
        await asyncio.sleep(0)
        engine.allow()
        await asyncio.gather(first, call, after)
        assert order == ["abc", "call", "x"]
        await close(batcher, worker, engine)

    asyncio.run(scenario())


def test_an_error_of_one_question_leaves_the_others_and_the_server() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        batcher, worker, first = await batcher_with_a_busy_model(engine)
        tasks = [asyncio.create_task(submit(batcher, text)) for text in ("x", "bad", "y")]
        await asyncio.sleep(0)
        engine.allow()
        x, bad, y = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(bad, DataError)
        assert [cast(Answer, each).prediction.text for each in (x, y)] == ["x", "y"]
        with pytest.raises(RuntimeError, match="fault"):
            await submit(batcher, "fault")
        with pytest.raises(ModelError, match="was removed"):
            await submit(batcher, "x", "removed")
        assert (await submit(batcher, "after")).prediction.text == "after"
        await first
        await close(batcher, worker, engine)

    asyncio.run(scenario())


def test_a_full_queue_refuses_and_a_client_that_has_gone_frees_its_place() -> None:
    async def scenario() -> None:
        engine = FakeEngine()
        batcher, worker, first = await batcher_with_a_busy_model(engine, "a" * 50, max_queue=2)
        tasks = [asyncio.create_task(submit(batcher, text)) for text in ("1", "2")]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await submit(batcher, "3")
        for gone in (tasks[0], first):  # one waits, one is being answered
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        assert batcher.num_waiting == 1
        engine.allow()
        assert (await tasks[1]).prediction.text == "2"
        assert engine.steps == [("a", ["a" * 50]), ("a", ["2"])]
        await close(batcher, worker, engine)

    asyncio.run(scenario())
