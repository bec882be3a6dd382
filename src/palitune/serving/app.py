"""The HTTP interface: routes, errors and limits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.formparsers import MultiPartParser
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from palitune import __version__
from palitune.data.images.io import EncodedImage
from palitune.errors import DataError, ModelError
from palitune.evaluation.answering import Question
from palitune.evaluation.object_quality.min_score import ScoreThresholds, resolve_min_score
from palitune.evaluation.tiles.config import InferenceTiles
from palitune.evaluation.tiles.questions import cut_question, merge_predictions
from palitune.serving import openai_api
from palitune.serving.batching import Answer, Batcher, QueueFull
from palitune.serving.collected import KeptAnswers, build_dataset
from palitune.serving.config import ServerConfig, is_loopback
from palitune.serving.engine import Engine
from palitune.serving.fetching import fetch_image
from palitune.serving.http_guard import CLIENT_GONE, HttpGuard, describe_error, error_response
from palitune.serving.playground import sample_images
from palitune.serving.requests import (
    PredictBody,
    ServedTasks,
    build_question,
    check_image,
    decode_image,
    predict_schema,
)
from palitune.serving.responses import num_prompt_tokens, num_tokens, prediction_json
from palitune.serving.server_metrics import MeasureRequests, ServerMetrics
from palitune.serving.text_stream import TextStream

T = TypeVar("T")

ASSETS = Path(__file__).parent / "assets"
RETRY_AFTER_SECONDS = 1
CLIENT_POLL_SECONDS = 0.1
"""Time between two looks at whether a client that waits has gone."""
_TEXT_BYTES = 200_000
"""Bytes of a request beside its images."""


class AdapterBody(BaseModel):
    """An adapter to load while the server runs."""

    model_config = ConfigDict(extra="forbid")

    name: str
    folder: str
    """Path below `adapter_root`."""


class Service:
    """Engine, queue, tasks, limits and metrics, which the routes share."""

    def __init__(
        self,
        engine: Engine,
        tasks: ServedTasks,
        settings: ServerConfig,
        max_batch: int,
        tiles: InferenceTiles | None = None,
    ) -> None:
        self.tasks, self.settings = tasks, settings
        self.tiles = tiles
        """Tiles of requests to `/v1/predict` that set none."""
        self.batcher = Batcher(
            engine,
            max_batch=max_batch,
            max_queue=settings.max_queue,
            on_batch=lambda size: self.metrics.batch_size.observe(size),
        )
        self.metrics = ServerMetrics(lambda: self.batcher.num_waiting)

    @property
    def engine(self) -> Engine:
        return self.batcher.engine

    def adapter(self, name: str | None) -> str:
        """Return the adapter of a request. Raises HTTPException if there is none of that name."""
        if name is None:
            return self.engine.names[0]
        if name not in self.engine.names:
            valid = ", ".join(self.engine.names)
            raise HTTPException(404, f"model must be one of {valid}, got {name[:80]!r}.")
        return name

    async def question(
        self, body: PredictBody, images: list[EncodedImage], tiles: InferenceTiles | None = None
    ) -> tuple[str, Question]:
        """Return adapter and question of a request; `tiles` are those if it sets none."""
        adapter = self.adapter(body.adapter)
        return adapter, await asyncio.to_thread(
            build_question, body, images, self.tasks, self.settings, tiles
        )

    def min_score(
        self, adapter: str, question: Question, requested: float | str | None = None
    ) -> ScoreThresholds:
        """Return the thresholds of an answer. Raises HTTPException if the adapter has none."""
        if question.task.value_is_text:
            return ScoreThresholds()
        value = self.settings.min_score if requested is None else requested
        try:
            return resolve_min_score(value, self.engine.folder(adapter), question.task.name)
        except DataError:  # names a folder of the server
            raise HTTPException(
                400,
                f"min_score=auto needs thresholds, and {adapter} has none for the task "
                f"{question.task.name}. Send min_score as a number.",
            ) from None

    async def answer(self, adapter: str, question: Question, num_beams: int = 1) -> Answer:
        """Answer a question within the time of a request, tile by tile if it has tiles."""
        answering = self.batcher.submit if question.tiles is None else self._answer_tiles
        return await self._in_time(answering(adapter, question, num_beams))

    async def _answer_tiles(self, adapter: str, question: Question, num_beams: int) -> Answer:
        assert question.tiles is not None
        parts = await asyncio.to_thread(cut_question, question, question.tiles)
        submitted = [
            asyncio.ensure_future(self.batcher.submit(adapter, part, num_beams)) for part in parts
        ]
        try:
            answers = await asyncio.gather(*submitted)
        finally:
            for part_answer in submitted:
                part_answer.cancel()
        predictions = [part_answer.prediction for part_answer in answers]
        return Answer(
            await asyncio.to_thread(merge_predictions, question, question.tiles, predictions),
            queue_seconds=max(part_answer.queue_seconds for part_answer in answers),
            model_seconds=max(part_answer.model_seconds for part_answer in answers),
            batch_size=max(part_answer.batch_size for part_answer in answers),
        )

    async def stream(self, adapter: str, question: Question) -> AsyncIterator[str | Answer]:
        """Yield the text of an answer as it is generated, then the answer.

        If the caller stops, the answer is given up.
        """
        tokens = asyncio.Queue[int | None]()
        text = TextStream(self.engine.collator.tokenizer)
        submitted = self.batcher.submit(adapter, question, 1, tokens.put_nowait)
        answering = asyncio.ensure_future(self._in_time(submitted))
        answering.add_done_callback(lambda _: tokens.put_nowait(None))
        try:
            while (token := await tokens.get()) is not None:
                if piece := text.add(token):
                    yield piece
            answer = await answering
            if piece := text.finish(answer.prediction.text):
                yield piece
            yield answer
        finally:
            answering.cancel()

    async def _in_time(self, answering: Awaitable[Answer]) -> Answer:
        try:
            async with asyncio.timeout(self.settings.max_seconds):
                return await answering
        except TimeoutError:
            raise HTTPException(
                504, f"no answer within {self.settings.max_seconds:g} s. Try again later."
            ) from None

    async def images(self, body: PredictBody) -> list[EncodedImage]:
        """Decode or fetch the images of a request, without blocking other requests."""
        sources = [*([body.image] if body.image is not None else []), *body.images]
        if len(sources) > self.settings.max_images:
            raise DataError(f"images must be 1 to {self.settings.max_images}, got {len(sources)}.")
        return [await asyncio.to_thread(self._image, source) for source in sources]

    def _image(self, source: str) -> EncodedImage:
        if source.startswith(("http:", "https:")):
            return check_image(fetch_image(source, self.settings), self.settings)
        return decode_image(source, self.settings)


async def while_connected(request: Request, working: Awaitable[T]) -> T:
    """Return a result, and give it up when the client goes. Raises HTTPException then."""
    task = asyncio.ensure_future(working)
    try:
        while not (await asyncio.wait({task}, timeout=CLIENT_POLL_SECONDS))[0]:
            if await request.is_disconnected():
                raise HTTPException(CLIENT_GONE, "the client has gone.")
        return task.result()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


def max_request_bytes(settings: ServerConfig) -> int:
    """Return the most bytes of a request: its images as base64, and some text."""
    return settings.max_images * settings.max_image_bytes * 4 // 3 + _TEXT_BYTES


def create_app(service: Service, *, api_key: str | None) -> FastAPI:
    """Return the application of a service.

    Args:
        service: Engine, queue and limits.
        api_key: Key that requests must send; None: none.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = asyncio.create_task(service.batcher.work())
        yield
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        service.batcher.close()

    settings = service.settings
    max_bytes = max_request_bytes(settings)
    # Uploads stay in memory up to the limit of a request, so that no image touches the disk.
    MultiPartParser.spool_max_size = max_bytes + 1
    app = FastAPI(
        title="Palitune", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(HttpGuard, api_key=api_key, max_bytes=max_bytes)
    if is_loopback(settings.host):  # a page of another host must not reach it by DNS rebinding
        hosts = ["localhost", "127.0.0.1", "[::1]", settings.host]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)
    app.add_middleware(MeasureRequests, metrics=service.metrics)
    app.mount("/static", StaticFiles(directory=ASSETS), name="static")
    _add_error_handlers(app)
    _add_prediction_routes(app, service)
    _add_status_routes(app, service)

    return app


def _add_prediction_routes(app: FastAPI, service: Service) -> None:
    schema = {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": predict_schema()},
                "multipart/form-data": {"schema": predict_schema()},
            },
        }
    }

    @app.post("/v1/predict", openapi_extra=schema)
    async def predict(request: Request) -> dict[str, Any]:
        """Answer a prompt about an image: text, objects in pixels, scores and timings."""
        body, images = await _read_predict_request(request, service)
        adapter, question = await service.question(body, images, service.tiles)
        min_score = await asyncio.to_thread(service.min_score, adapter, question, body.min_score)
        answer = await while_connected(request, service.answer(adapter, question, body.num_beams))
        content = prediction_json(answer, question, min_score=min_score, masks=body.masks)
        return {"adapter": adapter, **content}

    @app.post("/v1/chat/completions")
    async def chat(chat_body: openai_api.ChatBody, request: Request) -> Any:
        """Answer a chat completion request of an OpenAI client."""
        body = openai_api.to_predict_body(chat_body)
        images = await service.images(body)
        adapter, question = await service.question(body, images)
        if chat_body.stream:
            return await _stream_chat(request, service, chat_body, adapter, question)
        min_score = await asyncio.to_thread(service.min_score, adapter, question)
        answer = await while_connected(request, service.answer(adapter, question))
        return openai_api.completion(
            adapter,
            answer.prediction.text,
            finished=answer.prediction.finished,
            usage=_usage(service, question, answer),
            extra=prediction_json(answer, question, min_score=min_score, masks="rle"),
        )


async def _stream_chat(
    request: Request,
    service: Service,
    body: openai_api.ChatBody,
    adapter: str,
    question: Question,
) -> Response:
    """Return the events of an answer; an error before its first text still has its own status."""
    items = service.stream(adapter, question)
    first = await while_connected(request, anext(items))

    async def all_items() -> AsyncIterator[str | Answer]:
        yield first
        async for item in items:
            yield item

    with_usage = body.stream_options is not None and body.stream_options.include_usage
    usage_of = partial(_usage, service, question) if with_usage else None
    events = openai_api.stream_events(adapter, all_items(), usage_of)
    return StreamingResponse(events, media_type="text/event-stream")


def _usage(service: Service, question: Question, answer: Answer) -> dict[str, int]:
    collator = service.engine.collator
    return openai_api.usage(
        num_prompt_tokens(question, collator), num_tokens(answer.prediction, collator.tokenizer)
    )


def _add_status_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the adapters and the base model."""
        return openai_api.model_list(service.engine.names)

    @app.post("/v1/adapters", status_code=201)
    async def add_adapter(body: AdapterBody) -> dict[str, Any]:
        """Load a further LoRA from a folder below `adapter_root`."""
        folder = _adapter_folder(service.settings, body.folder)
        try:
            await service.batcher.call(service.engine.add_adapter, body.name, str(folder))
        except ModelError as error:  # without the place of the folder on this machine
            raise ModelError(str(error).replace(f"{folder}", body.folder)) from error
        return openai_api.model_list(service.engine.names)

    @app.delete("/v1/adapters/{name}")
    async def remove_adapter(name: str) -> dict[str, Any]:
        """Remove a LoRA that was added."""
        await service.batcher.call(service.engine.remove_adapter, name)
        return openai_api.model_list(service.engine.names)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answer while the server works."""
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return counters and histograms in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.post("/v1/dataset")
    async def dataset(body: KeptAnswers) -> Response:
        """Return corrected answers as a ZIP file that `data=jsonl` and `data=coco` read."""
        content = await asyncio.to_thread(build_dataset, body, service.settings)
        return Response(content, media_type="application/zip")

    @app.get("/v1/playground", include_in_schema=False)
    async def playground_choices() -> dict[str, Any]:
        return {"presets": service.tasks.presets(), "samples": sample_images()}

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> str:
        return (ASSETS / "docs.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def playground() -> str:
        return (ASSETS / "playground.html").read_text(encoding="utf-8")


def _adapter_folder(settings: ServerConfig, name: str) -> Path:
    """Return a folder below `adapter_root`. Raises HTTPException for any other."""
    if settings.adapter_root is None:
        raise HTTPException(403, "adapters cannot be loaded: the server has no adapter_root.")
    root = Path(settings.adapter_root).resolve()
    try:
        folder = (root / name).resolve()
        is_valid = folder.is_relative_to(root) and folder.is_dir()
    except (OSError, ValueError, RuntimeError):  # too long, a null character, a circle of links
        is_valid = False
    if not is_valid:
        raise HTTPException(404, f"folder must be below adapter_root, got {name[:80]!r}.")
    return folder


async def _read_predict_request(
    request: Request, service: Service
) -> tuple[PredictBody, list[EncodedImage]]:
    """Read JSON, or a form with image files."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        body = PredictBody.model_validate_json(await request.body())
        return body, await service.images(body)
    form = await request.form(max_files=service.settings.max_images, max_fields=20)
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    texts = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    body = PredictBody.model_validate(texts)
    images = [check_image(await file.read(), service.settings) for file in files]
    return body, [*images, *await service.images(body)]


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(DataError)
    @app.exception_handler(ModelError)
    @app.exception_handler(StarletteHTTPException)
    @app.exception_handler(ClientDisconnect)  # Exception's handler would let it pass on
    @app.exception_handler(Exception)
    async def refuse(request: Request, error: Exception) -> Response:
        return error_response(*describe_error(error))

    @app.exception_handler(QueueFull)
    async def busy(request: Request, error: Exception) -> Response:
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return error_response(429, "the queue is full. Try again later.", headers)

    @app.exception_handler(ValidationError)
    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, ValidationError | RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return error_response(422, f"{place or 'body'}: {first['msg']}")
