"""Random and damaged HTTP requests to the application of `palitune serve`, without a network.

Everything is the served code except the network of the model: images are decoded and resized,
prompts are tokenized, grammars are compiled and answers are parsed. The generated texts are made of
the request, so that the answer of every request is known.
"""

import asyncio
import base64
import hashlib
import io
import json
import logging
import random
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from PIL import Image

from palitune.errors import ModelError
from palitune.evaluation.answering import Question
from palitune.models.generation.constraints import build_logits_processor
from palitune.models.generation.generate import Generation
from palitune.serving.app import Service, create_app
from palitune.serving.config import ServerConfig
from palitune.serving.engine import Engine
from palitune.serving.requests import ServedTasks
from palitune.serving.running_questions import Progress, Result, logged

REQUESTS_PER_CASE = 10
MAX_MESSAGE_CHARACTERS = 500
STATUSES = {200, 201, 307, 400, 401, 403, 404, 405, 413, 422, 429, 499}
"""Statuses of answers that are not a fault of the server."""
ADAPTER_ROOT = Path(__file__).parent
BOUNDARY = "fuzz-boundary"
PROMPTS = (
    "ocr", "detect boat ; buoy", "segment boat", "caption en", "answer en how many?",
    "extract json", "<image><eos><bos>", "detect " + "boat ; " * 300,
)  # fmt: skip
_SECRETS = re.compile(r"Traceback|File \"|site-packages|/palitune/|/tmp/|/root|/home")


class StubEngine:
    """An engine whose answers are made of the request. Only its generated texts are no model's."""

    def __init__(self) -> None:
        from palitune.data.collator import Collator
        from palitune.models.config import Tiny
        from palitune.models.loading import load_processor

        self.collator = Collator(load_processor(Tiny()))
        self.names = ["one", "base"]

    def answer_batch(
        self, name: str, questions: Sequence[Question], num_beams: int
    ) -> list[Result]:
        return [self._answer(question) for question in questions]

    def start(self, name: str) -> "StubEngine":
        return self

    def step(self, joining: Mapping[Any, Question], leaving: Sequence[Any]) -> Progress:
        results = {key: self._answer(question) for key, question in joining.items()}
        return Progress(tokens=dict.fromkeys(results, 5), results=results)

    def close(self) -> None:
        pass

    def add_adapter(self, name: str, folder: str) -> None:
        assert Path(folder).is_relative_to(ADAPTER_ROOT), folder
        raise ModelError(f"{folder} has no adapter.")

    def folder(self, name: str) -> None:
        """Return the folder of an adapter: there is none, and so no stored threshold."""
        return

    def remove_adapter(self, name: str) -> None:
        Engine.remove_adapter(cast(Engine, self), name)

    @property
    def _internal_names(self) -> dict[str, str]:
        return {"one": "default"}

    def _answer(self, question: Question) -> Result:
        try:
            self.collator.collate_prompts([question.example])
            grammars, limits = [question.grammar], [question.token_limit]
            build_logits_processor(self.collator.tokenizer, grammars, limits)
            text = expected_text(question.example.prefix, question.example.images)
            generation = Generation(text, (1,), (len(text),), (-0.5,), finished=True)
            return question.to_prediction(generation)
        except Exception as error:
            return logged(error)


def expected_text(prompt: str, images: Sequence[str]) -> str:
    """Return the answer of the stub, of any form that a model may generate."""
    digest = hashlib.sha256(json.dumps([prompt, list(images)]).encode()).hexdigest()
    rng = random.Random(digest)
    words = ("<loc0001><loc0002><loc0500><loc0900> boat", "<seg012>" * 16, " ; ", '{"a": 1}', "7")
    return digest + "".join(rng.choice(words) for _ in range(rng.randrange(9)))


@dataclass
class HttpRequest:
    """A request as an ASGI server passes it on."""

    method: str
    path: str
    body: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    hangs_up: bool = False
    """The client goes before its request is complete."""
    expected: str | None = None
    """Text of the answer, if the request is valid."""


@dataclass
class HttpAnswer:
    status: int = 0
    body: bytes = b""
    complete: bool = False


class Application:
    """The application, started in an event loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.faults = _Faults()
        logging.getLogger("palitune.serving").addHandler(self.faults)
        settings = ServerConfig(
            max_images=4,
            max_image_bytes=20_000,
            max_image_pixels=1_000_000,
            adapter_root=str(ADAPTER_ROOT),
        )
        service = Service(cast(Engine, StubEngine()), ServedTasks(()), settings, 8)
        self.app = create_app(service, api_key=None)
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        started = asyncio.Event()
        messages = [{"type": "lifespan.startup"}]

        async def receive() -> Any:
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            started.set()

        self.lifespan = asyncio.ensure_future(
            self.app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
        )
        await started.wait()

    def answer(self, requests: Sequence[HttpRequest]) -> list[HttpAnswer]:
        """Send requests at the same time. Raises AssertionError for a fault that is logged."""
        self.faults.texts.clear()

        async def all_answers() -> list[HttpAnswer]:
            return await asyncio.gather(*map(self._answer, requests))

        answers = self.loop.run_until_complete(all_answers())
        if self.faults.texts:
            raise AssertionError(self.faults.texts[0])
        return answers

    async def _answer(self, request: HttpRequest) -> HttpAnswer:
        answer = HttpAnswer()
        half = len(request.body) // 2
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": request.body[:half], "more_body": True},
            {"type": "http.request", "body": request.body[half:], "more_body": False},
        ]
        if request.hangs_up:
            messages[-1] = {"type": "http.disconnect"}

        async def receive() -> Any:
            if messages:
                return messages.pop(0)
            return await asyncio.Event().wait()

        async def send(message: Any) -> None:
            answer.status = message.get("status", answer.status)
            answer.body += message.get("body", b"")
            answer.complete = message["type"] == "http.response.body" and not message.get(
                "more_body", False
            )

        path, _, query = request.path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
            "method": request.method, "scheme": "http", "path": path, "root_path": "",
            "raw_path": quote(path).encode(), "query_string": query.encode("latin-1", "replace"),
            "headers": request.headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
        }  # fmt: skip
        await self.app(scope, receive, send)
        return answer


class _Faults(logging.Handler):
    """Collects the tracebacks that the server logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter().format(record))


class RequestMaker:
    """Makes valid requests and damages most of them.

    Args:
        rng: Source of all choices.
        mutate: Damages bytes.
        set_random_field: Replaces one value inside a JSON value.
        random_text: Makes a text.
    """

    def __init__(
        self,
        rng: random.Random,
        mutate: Callable[[bytes, random.Random], bytes],
        set_random_field: Callable[[Any, random.Random], Any],
        random_text: Callable[[random.Random], str],
    ) -> None:
        self.rng = rng
        self.mutate, self.set_random_field = mutate, set_random_field
        self.random_text = random_text

    def valid(self) -> HttpRequest:
        """Return a request whose answer is known."""
        from palitune.data.images.io import EncodedImage

        image, prompt = self.image_file(), self.rng.choice(PROMPTS[:6])
        body = json.dumps({"image": base64.b64encode(image).decode(), "prompt": prompt})
        request = HttpRequest("POST", "/v1/predict", body.encode(), _headers("application/json"))
        request.expected = expected_text(prompt, [EncodedImage(image)])
        return request

    def damaged(self) -> HttpRequest:
        """Return a request of any route, damaged in its JSON, its bytes or its headers."""
        make = self.rng.choice([self.predict, self.predict, self.chat, self.form, self.other])
        request = make()
        if self.rng.random() < 0.3:
            request.body = self.mutate(request.body, self.rng)
        if self.rng.random() < 0.15:
            self.damage_headers(request)
        request.hangs_up = self.rng.random() < 0.05
        return request

    def predict(self) -> HttpRequest:
        body = {
            "image": self.image_text(), "prompt": self.prompt(), "min_score": 0.5,
            "constrained": self.rng.random() < 0.5, "num_beams": self.rng.choice([1, 1, 3]),
            "max_new_tokens": self.rng.choice([1, 64, 10**6]), "adapter": "one",
            "masks": self.rng.choice(["rle", "png"]),
            "tiles": self.rng.choice(
                [None, False, {"size": self.rng.choice([-1, 1, 20, 10**9])}, {"overlap": 1}]
            ),
            "task": self.rng.choice(["ocr", "detection", "segmentation", "json", "docvqa", "no"]),
        }  # fmt: skip
        body = {key: value for key, value in body.items() if self.rng.random() < 0.8}
        return self.json_request("/v1/predict", body)

    def chat(self) -> HttpRequest:
        parts = [
            {"type": "image_url", "image_url": {"url": self.image_text()}},
            {"type": "text", "text": self.prompt()},
        ]
        body = {
            "model": self.rng.choice(["one", "", "base", "no"]),
            "messages": [{"role": "user", "content": parts}],
            "max_tokens": 9,
            "stream": self.rng.random() < 0.5,
            "stream_options": {"include_usage": True},
        }
        return self.json_request("/v1/chat/completions", body)

    def form(self) -> HttpRequest:
        fields = [
            (b'name="image"; filename="a.png"\r\nContent-Type: image/png', self.image()),
            (b'name="prompt"', self.prompt().encode("utf-8", "replace")),
            (b'name="' + self.text().encode("utf-8", "replace") + b'"', b"1"),
        ]
        lines = b"".join(
            b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n"
            % (BOUNDARY.encode(), name, value)
            for name, value in fields[: self.rng.choice([2, 2, 3])]
        )
        body = lines + b"--%b--\r\n" % BOUNDARY.encode()
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return HttpRequest("POST", "/v1/predict", body, _headers(kind))

    def other(self) -> HttpRequest:
        """Return a request to a data set, to adapters, or to any path."""
        item = {
            "image": self.image_text(), "prompt": self.prompt(), "text": self.text(),
            "instances": [{"label": "boat", "box": [1, 2, 9, 8]}],
        }  # fmt: skip
        kind = self.rng.randrange(4)
        if kind == 0:
            return self.json_request("/v1/dataset", {"items": [item]})
        if kind == 1:
            folder = self.rng.choice(["../src", "/", "a" * 300, self.text(), "no"])
            return self.json_request("/v1/adapters", {"name": self.text(), "folder": folder})
        paths = ("/", "/docs", "/health", "/metrics", "/v1/models", "/v1/playground", "/openapi")
        path = self.rng.choice([*paths, "/static/" + self.text(), "/v1/adapters/" + self.text()])
        methods = ["GET", "GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "FOO"]
        return HttpRequest(self.rng.choice(methods), path.replace("\ud800", "?"), b"", _headers(""))

    def json_request(self, path: str, body: Any) -> HttpRequest:
        changed = self.set_random_field(body, self.rng) if self.rng.random() < 0.5 else body
        return HttpRequest("POST", path, json.dumps(changed).encode(), _headers("application/json"))

    def damage_headers(self, request: HttpRequest) -> None:
        name = self.rng.choice(
            [b"content-type", b"content-length", b"host", b"authorization", b"range", b"x-any"]
        )
        value = self.text().encode("utf-8", "replace").replace(b"\n", b"")
        value = self.rng.choice([value, b"-1", b"9" * 30, b"multipart/form-data", b"text/plain"])
        request.headers.append((name, value))
        if self.rng.random() < 0.5:  # instead of a second header of that name
            request.headers.reverse()

    def text(self) -> str:
        return self.random_text(self.rng)[:4000]

    def prompt(self) -> str:
        return self.rng.choice([self.rng.choice(PROMPTS), self.text()])

    def image_text(self) -> str:
        text = base64.b64encode(self.image()).decode()
        uris = [text, f"data:image/png;base64,{text}", f"data:,{text}", "https://localhost/a.png"]
        return self.rng.choice([*uris[:2], *uris, self.text(), "file:///etc/passwd"])

    def image(self) -> bytes:
        """Return an image file, whole, damaged, cut off, or one that claims a huge size."""
        kind, data = self.rng.randrange(6), self.image_file()
        if kind == 0:
            return self.mutate(data, self.rng)
        if kind == 1:
            return data[: self.rng.randrange(len(data))]
        if kind == 2:
            return bomb(self.rng.choice([50_000, 2**31 - 1]))
        return data

    def image_file(self) -> bytes:
        """Return an image file of one of the served formats."""
        sink = io.BytesIO()
        form = self.rng.choice(["PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP"])
        size = self.rng.choice([(40, 30), (1, 1), (9, 60)])
        color = tuple(self.rng.randrange(256) for _ in range(3))
        Image.new("RGB", size, color).save(sink, form)
        return sink.getvalue()


def bomb(side: int) -> bytes:
    """Return a small PNG that claims side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10_000))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def check(request: HttpRequest, answer: HttpAnswer) -> None:
    """Raise AssertionError unless the answer is whole, and a value or one sentence."""
    if request.hangs_up and not answer.status:
        return
    place = f"{request.method} {request.path[:80]!r}, status {answer.status}"
    assert answer.status in STATUSES, f"{place}: {answer.body[:500]!r}"
    assert answer.complete, f"{place}: the answer is not complete"
    if request.expected is not None:
        text = json.loads(answer.body).get("text")
        assert text == request.expected, f"{place}: another answer, {answer.body[:300]!r}"
    if answer.status >= 400 and request.method != "HEAD":
        _check_message(answer.body, place)


def _check_message(body: bytes, place: str) -> None:
    if body == b"Invalid host header":
        return
    message = json.loads(body)["error"]["message"]
    assert 0 < len(message) <= MAX_MESSAGE_CHARACTERS, f"{place}: {message!r}"
    assert len(message.splitlines()) == 1, f"{place}: line breaks in {message!r}"
    assert not _SECRETS.search(message), f"{place}: {message!r}"


def _headers(kind: str) -> list[tuple[bytes, bytes]]:
    headers = [(b"host", b"127.0.0.1:8000")]
    return [*headers, (b"content-type", kind.encode())] if kind else headers
