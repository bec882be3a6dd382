"""The routes, with the embedded model behind them."""

import asyncio
import base64
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from palitune.data.collator import Collator
from palitune.data.sources.embedded import Handwriting
from palitune.evaluation.answering import Question, answer
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.tiles.config import InferenceTiles
from palitune.evaluation.tiles.predict_tiles import predict_examples
from palitune.models.adapters.checkpoint import save_adapter
from palitune.models.adapters.config import Lora
from palitune.models.config import Device, Tiny
from palitune.models.loading import load_for_training, load_processor
from palitune.records import Example, Instance, Prediction
from palitune.serving.app import Service, create_app, max_request_bytes
from palitune.serving.config import ServerConfig
from palitune.serving.engine import Engine
from palitune.serving.requests import ServedTasks
from palitune.tasks.detection import Detection
from palitune.tasks.infer_task import task_from_prompt

MODEL = Tiny(device=Device.cpu)
KEY = {"Authorization": "Bearer secret"}


def page(number: int) -> bytes:
    return (Handwriting().resolved_path() / "images" / f"test-{number:04d}.png").read_bytes()


def data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two LoRA adapters of the embedded model, `one` and `two`, that answer differently."""
    import torch

    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        network = load_for_training(MODEL, Lora(rank=4))
        with torch.no_grad():
            for key, weight in network.named_parameters():
                if "lora_B" in key:
                    weight.normal_(0, 0.05)
        save_adapter(network, folder / name, MODEL)
    return folder


@pytest.fixture(scope="module")
def service(adapters: Path) -> Service:
    collator = Collator(load_processor(MODEL))
    engine = Engine(MODEL, Lora(path=str(adapters / "one")), "one", collator)
    settings = ServerConfig(
        adapter_root=str(adapters),
        max_images=2,
        max_image_bytes=3_000_000,
        max_image_pixels=1_000_000,
    )
    return Service(engine, ServedTasks(()), settings, 8)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    app = create_app(service, api_key=None)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def expected_text(service: Service, number: int, prompt: str) -> str:
    path = Handwriting().resolved_path() / "images" / f"test-{number:04d}.png"
    example = Example(
        id="1",
        images=(str(path),),
        size=(112, 112),
        prefix=prompt,
        suffixes=(),
        reference=(),
        location="",
    )
    question = Question(example=example, task=task_from_prompt(prompt)[0])
    [prediction] = answer(service.engine.network, service.engine.collator, [question])
    return prediction.text


def test_predict_answers_as_the_library_does_by_json_and_by_form(
    client: TestClient, service: Service
) -> None:
    for number, prompt in ((1, "ocr"), (2, "detect 1 ; 2"), (3, "answer en how many?")):
        by_json = client.post(
            "/v1/predict",
            json={"image": data_uri(page(number)), "prompt": prompt, "adapter": "one"},
        ).json()
        by_form = client.post(
            "/v1/predict", data={"prompt": prompt}, files={"image": ("p.png", page(number))}
        ).json()
        service.engine.network.set_adapter("default")
        assert by_json["text"] == by_form["text"] == expected_text(service, number, prompt)
        assert by_json["size"] == [112, 112]
        assert by_json["adapter"] == "one"
        assert by_json["timings"]["batch_size"] == 1


def test_base_and_adapters_answer_side_by_side_and_adapters_come_and_go(
    client: TestClient, service: Service
) -> None:
    def ask(adapter: str) -> str:
        body = {"image": data_uri(page(5)), "prompt": "detect 1 ; 2 ; 3", "adapter": adapter}
        return str(client.post("/v1/predict", json=body).json()["text"])

    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["one", "base"]
    one, base = ask("one"), ask("base")
    added = client.post("/v1/adapters", json={"name": "two", "folder": "two"})
    assert added.status_code == 201
    two = ask("two")
    assert len({one, base, two}) == 3
    assert [ask("one"), ask("base"), ask("two")] == [one, base, two]
    assert client.delete("/v1/adapters/two").status_code == 200
    assert (
        client.post(
            "/v1/predict", json={"image": data_uri(page(5)), "prompt": "ocr", "adapter": "two"}
        ).status_code
        == 404
    )
    assert client.delete("/v1/adapters/one").status_code == 400
    assert ask("one") == one


@pytest.mark.parametrize("folder", ["/etc", "..", "../one", "missing", "two\0", "a" * 300])
def test_adapters_are_loaded_from_below_their_root_only(client: TestClient, folder: str) -> None:
    refused = client.post("/v1/adapters", json={"name": "x", "folder": folder})
    assert refused.status_code == 404
    assert "/tmp" not in refused.text


def test_a_chat_is_answered_as_openai_describes_it(client: TestClient) -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": data_uri(page(1))}},
        {"type": "text", "text": "ocr"},
    ]
    body = {"model": "one", "messages": [{"role": "user", "content": parts}], "temperature": 0.7}
    whole = client.post("/v1/chat/completions", json=body).json()
    [choice] = whole["choices"]
    plain = client.post("/v1/predict", json={"image": data_uri(page(1)), "prompt": "ocr"}).json()
    assert choice["message"] == {"role": "assistant", "content": plain["text"]}
    assert whole["usage"]["total_tokens"] == sum(
        whole["usage"][name] for name in ("prompt_tokens", "completion_tokens")
    )
    streamed = client.post("/v1/chat/completions", json=body | {"stream": True})
    events = [line.removeprefix("data: ") for line in streamed.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == plain["text"]


def test_the_openai_client_works_unchanged(client: TestClient) -> None:
    from openai import OpenAI

    openai = OpenAI(base_url="http://127.0.0.1/v1", api_key="none", http_client=client)
    assert [model.id for model in openai.models.list()] == ["one", "base"]
    message = {
        "role": "user",
        "content": [
            {"type": "text", "text": "ocr"},
            {"type": "image_url", "image_url": {"url": data_uri(page(1))}},
        ],
    }
    done = openai.chat.completions.create(model="base", messages=[message], max_tokens=3)  # type: ignore[list-item]
    assert done.choices[0].finish_reason in ("stop", "length")
    with pytest.raises(Exception, match="model must be one of"):
        openai.chat.completions.create(model="gpt", messages=[message])  # type: ignore[list-item]


def chat_message(number: int, prompt: str) -> dict[str, object]:
    return {
        "role": "user",
        "content": [
            {"type": "text", "text": prompt},
            {"type": "image_url", "image_url": {"url": data_uri(page(number))}},
        ],
    }


def test_a_stream_has_the_text_of_the_whole_answer_in_pieces(client: TestClient) -> None:
    from openai import OpenAI

    openai: Any = OpenAI(base_url="http://127.0.0.1/v1", api_key="none", http_client=client)
    for model, prompt, limit in (
        ("one", "detect 1 ; 2", 12),
        ("base", "ocr", 1),
        ("base", "answer en how many?", 20),
    ):
        request = {"model": model, "messages": [chat_message(4, prompt)], "max_tokens": limit}
        whole = openai.chat.completions.create(**request)
        *chunks, last = openai.chat.completions.create(
            **request, stream=True, stream_options={"include_usage": True}
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
        assert "".join(pieces) == whole.choices[0].message.content
        assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (
            len(chunks) - 1
        )
        assert (last.choices, last.usage) == ([], whole.usage)
        if whole.usage.completion_tokens > 2:
            assert sum(map(bool, pieces)) > 1


def test_an_error_before_the_first_text_of_a_stream_has_its_status(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"model": "one", "messages": [chat_message(1, "ocr")], "stream": True}
    assert client.post("/v1/chat/completions", json=body | {"model": "x"}).status_code == 404
    monkeypatch.setattr(service.batcher, "_max_queue", 0)
    assert client.post("/v1/chat/completions", json=body).status_code == 429


def test_an_error_after_the_first_text_of_a_stream_is_its_last_event(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def submit(adapter: object, question: object, beams: object, on_token: Any) -> None:
        on_token(service.engine.collator.tokenizer.encode("boat", add_special_tokens=False)[0])
        await asyncio.sleep(0.05)
        raise RuntimeError("/home/somebody/secret")

    monkeypatch.setattr(service.batcher, "submit", submit)
    body = {"model": "one", "messages": [chat_message(1, "ocr")], "stream": True}
    logging.disable(logging.CRITICAL)
    streamed = client.post("/v1/chat/completions", json=body)
    logging.disable(logging.NOTSET)
    *_, last = [event for event in streamed.text.split("\n\n") if event]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == 500
    assert "secret" not in streamed.text


def test_a_stream_whose_reader_stops_frees_its_place(service: Service) -> None:
    async def scenario() -> None:
        gone = asyncio.Event()

        async def submit(adapter: object, question: object, beams: object, on_token: Any) -> None:
            on_token(service.engine.collator.tokenizer.encode("boat", add_special_tokens=False)[0])
            try:
                await asyncio.sleep(60)
            finally:
                gone.set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(service.batcher, "submit", submit)
            items: Any = service.stream("one", cast(Question, None))
            assert await anext(items)
            await items.aclose()
            await asyncio.wait_for(gone.wait(), 5)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b"{", 422),
        (b'{"image": 5}', 422),
        (b'{"image": "x", "prompt": "ocr"}', 400),
        (b'{"image": "https://169.254.169.254/x", "prompt": "ocr"}', 400),
        (b'{"image": "file:///etc/passwd", "prompt": "ocr"}', 400),
        (b'{"image": "https://[]/a.png", "prompt": "ocr"}', 400),
        (b'{"prompt": "ocr"}', 400),
        (b'{"prompt": "ocr", "other": 1}', 422),
        (b'{"prompt": "\\ud800"}', 422),
        (b"[" * 100_000, 422),
        (b'{"a\\n\\u2028' + b"b" * 5000 + b'": 1}', 422),
    ],
)
def test_a_bad_request_is_one_sentence(client: TestClient, body: bytes, status: int) -> None:
    refused = client.post("/v1/predict", content=body)
    assert refused.status_code == status
    message = refused.json()["error"]["message"]
    assert len(message) <= 500
    assert len(message.splitlines()) == 1
    assert "Traceback" not in message


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/chat/completions", "/v1/dataset"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_a_client_that_goes_in_the_middle_of_its_request_is_no_fault(
    service: Service, caplog: pytest.LogCaptureFixture, path: str, kind: str
) -> None:
    messages = [
        {"type": "http.request", "body": b"--x", "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"content-type", kind.encode())],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        pass

    asyncio.run(create_app(service, api_key=None)(scope, receive, send))  # raises nothing
    assert messages == []
    assert caplog.records == []


def test_damaged_pixels_fail_alone(client: TestClient) -> None:
    content = page(1)
    start = content.index(b"IDAT") + 4
    damaged = content[:start] + bytes(60) + content[start + 60 :]
    refused = client.post("/v1/predict", json={"image": data_uri(damaged), "prompt": "ocr"})
    assert refused.status_code == 400
    assert "cannot be read" in refused.json()["error"]["message"]


def test_a_fault_of_ours_says_nothing_about_the_machine(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("/home/somebody/secret")

    monkeypatch.setattr(service.engine, "start", fail)
    logging.disable(logging.CRITICAL)
    refused = client.post("/v1/predict", json={"image": data_uri(page(1)), "prompt": "ocr"})
    logging.disable(logging.NOTSET)
    assert refused.status_code == 500
    assert "secret" not in refused.text


def test_the_queue_refuses_with_retry_after(
    service: Service, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.batcher, "_max_queue", 0)
    refused = client.post("/v1/predict", json={"image": data_uri(page(1)), "prompt": "ocr"})
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"


def test_without_the_key_nothing_is_answered_but_page_and_health(service: Service) -> None:
    app = create_app(service, api_key="secret")
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get("/health").status_code == 200
    assert client.get("/").status_code == 200
    for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/playground"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"Authorization": "Bearer secre"}).status_code == 401
        assert client.get(path, headers=KEY).status_code == 200


def test_a_large_body_is_refused_also_without_its_length(service: Service) -> None:
    app = create_app(service, api_key=None)
    client = TestClient(app, base_url="http://127.0.0.1")
    limit = max_request_bytes(service.settings)
    assert client.post("/v1/predict", headers={"content-length": str(limit + 1)}).status_code == 413

    def chunks() -> Iterator[bytes]:
        block = bytes(1 << 20)
        for _ in range(limit // len(block) + 2):
            yield block

    assert client.post("/v1/predict", content=chunks()).status_code == 413


def test_another_host_name_is_refused_on_loopback(service: Service) -> None:
    client = TestClient(create_app(service, api_key=None), base_url="http://attacker.example")
    assert client.get("/v1/models").status_code == 400


def test_uploads_stay_in_memory(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    def fail(*args: object, **options: object) -> None:
        raise AssertionError("an upload was written to the disk")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", fail)
    file = io.BytesIO()
    Image.effect_noise((900, 900), 90).convert("RGB").save(file, "BMP")  # 2.4 MB
    answered = client.post(
        "/v1/predict", data={"prompt": "ocr"}, files={"image": ("noise.bmp", file.getvalue())}
    )
    assert answered.status_code == 200


def test_metrics_count_requests_and_batches(client: TestClient) -> None:
    client.post("/v1/predict", json={"image": data_uri(page(1)), "prompt": "ocr"})
    text = client.get("/metrics").text
    assert 'palitune_requests_total{path="/v1/predict",status="200"}' in text
    assert "palitune_batch_size_bucket" in text
    assert "palitune_queue_length 0.0" in text


def test_objects_below_the_stored_thresholds_are_left_out(
    client: TestClient, service: Service, adapters: Path
) -> None:
    def ask(**settings: Any) -> Any:
        body = {"image": data_uri(page(2)), "prompt": "detect 1 ; 2 ; 3 ; 4", "constrained": True}
        return client.post("/v1/predict", json=body | settings)

    everything = ask().json()["value"]
    assert everything
    refused = ask(min_score="auto")
    assert refused.status_code == 400
    assert "one has none for the task detection. Send min_score as a number." in refused.text
    assert str(adapters) not in refused.text
    assert ask(min_score="best").status_code == 422

    scores = sorted(item["score"] for item in everything)
    point = {"threshold": scores[-1], "objects": 3}
    parts = {"pages": {"task": "detection", "overall": point, "classes": {}}}
    file = adapters / "one" / "thresholds.json"
    file.write_text(json.dumps({"parts": parts}))
    try:
        kept = ask(min_score="auto").json()["value"]
        assert [item["score"] for item in kept] == [scores[-1]]
        assert ask(min_score=scores[0]).json()["value"] == everything
        assert ask(min_score="auto", adapter="base").status_code == 400
        service.settings.min_score = "auto"
        assert ask().json()["value"] == kept
        assert ask(min_score=0).json()["value"] == everything
    finally:
        service.settings.min_score = 0.0
        file.unlink()


TILES: dict[str, Any] = {"size": 60, "overlap": 0.25}


def tiled_prediction(service: Service, number: int) -> Prediction:
    """The prediction of the library, tile by tile."""
    path = Handwriting().resolved_path() / "images" / f"test-{number:04d}.png"
    example = Example(
        id="1", images=(str(path),), size=(112, 112), prefix="detect 1 ; 2", suffixes=(),
        reference=(), location="",
    )  # fmt: skip
    service.engine.network.set_adapter("default")
    settings = EvaluationConfig(batch_size=8, num_workers=0, tiles=InferenceTiles(**TILES))
    engine = service.engine
    [(_, [prediction])] = predict_examples(
        engine.network, engine.collator, Detection(), [example], [[0]], settings
    )
    assert isinstance(prediction, Prediction)
    return prediction


def test_tiles_answer_as_the_library_does_by_json_and_by_form(
    client: TestClient, service: Service
) -> None:
    expected = tiled_prediction(service, 6)
    body = {"image": data_uri(page(6)), "prompt": "detect 1 ; 2", "adapter": "one"}
    by_json = client.post("/v1/predict", json=body | {"tiles": TILES}).json()
    form = {"prompt": "detect 1 ; 2", "tiles": json.dumps(TILES)}
    by_form = client.post("/v1/predict", data=form, files={"image": ("p.png", page(6))}).json()
    for content in (by_json, by_form):
        assert content["text"] == expected.text
        assert content["tiles"] == 9
        boxes = [item["box"] for item in content["value"]]
        assert boxes == [list(i.box) for i in expected.value or () if isinstance(i, Instance)]
    assert "tiles" not in client.post("/v1/predict", json=body).json()


def test_the_tiles_of_the_training_are_those_of_requests_without_their_own(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "tiles", InferenceTiles(**TILES))
    body = {"image": data_uri(page(6)), "prompt": "detect 1 ; 2", "adapter": "one"}
    whole = client.post("/v1/predict", json=body | {"tiles": False}).json()
    assert whole["text"] == expected_text(service, 6, "detect 1 ; 2")
    assert client.post("/v1/predict", json=body).json()["tiles"] == 9
    assert "tiles" not in client.post("/v1/predict", json=body | {"prompt": "ocr"}).json()
    monkeypatch.setattr(service, "tiles", InferenceTiles(size=5))
    refused = client.post("/v1/predict", json=body)
    assert refused.status_code == 400
    assert "more than max_tiles=64" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"tiles": {"size": 0}}, 422, "tiles.TilesBody.size: Input should be greater than or"),
        (
            {"tiles": {"size": 9, "overlap": 1}},
            422,
            "tiles.TilesBody.overlap: Input should be less",
        ),
        ({"tiles": "{"}, 422, "tiles: "),
        (
            {"tiles": {"size": 5}},
            400,
            "an image of 112 x 112 px has 784 tiles, more than max_tiles=64. Send a larger",
        ),
        (
            {"tiles": {"size": 1, "overlap": 0}},
            400,
            "tiles.size=1 cuts an image of 112 x 112 px into 12544 tiles, more than 10000.",
        ),
        (
            {"tiles": {"size": 1}},
            400,
            "tiles.overlap must leave at least one pixel of the tile's 1, got 0.2.",
        ),
        ({"tiles": {"size": 60}, "prompt": "ocr"}, 400, "tiles must be false for a task without"),
    ],
)
def test_impossible_tiles_are_refused_in_one_sentence(
    client: TestClient, change: dict[str, Any], status: int, message: str
) -> None:
    body = {"image": data_uri(page(6)), "prompt": "detect 1 ; 2"} | change
    answer = client.post("/v1/predict", json=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]


def test_the_schema_of_requests_refers_to_nothing_else(client: TestClient) -> None:
    content = client.get("/openapi.json").json()
    assert "$defs" not in json.dumps(content)
