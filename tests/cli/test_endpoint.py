"""`palitune evaluate endpoint=...` judges an OpenAI-compatible server: a small one in process."""

import base64
import io
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from palitune import __main__ as program
from palitune.data.sources.embedded import Handwriting
from palitune.errors import EndpointError
from palitune.evaluation import endpoint

DATA = ["task=ocr", "data=handwriting", "evaluation.num_workers=0", "evaluation.max_samples=24"]


PNG = base64.b64encode(
    (Handwriting().resolved_path() / "images/test-0001.png").read_bytes()
).decode()


class Server(ThreadingHTTPServer):
    """Answers with the texts of predictions.jsonl by image and prompt."""

    answers: dict[tuple[bytes, str], str]
    status = 200
    refusals = 0
    """Requests that are still refused with status 503."""
    seen: list[dict[str, Any]]
    authorization: set[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(body)
        self.server.authorization.add(self.headers["Authorization"])
        [message] = body["messages"]
        image, text = message["content"]
        key = pixels(base64.b64decode(image["image_url"]["url"].partition(",")[2]))
        answer = self.server.answers.get((key, text["text"]), "?")
        choice = {"message": {"content": answer + "<eos>"}, "finish_reason": "stop"}
        content = json.dumps({"choices": [choice]} if self.path == "/v1/chat/completions" else {})
        busy = self.server.refusals > 0
        self.server.refusals -= busy
        self.send_response(503 if busy else self.server.status)
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: Any) -> None:
        pass


def pixels(encoded: bytes) -> bytes:
    return Image.open(io.BytesIO(encoded)).convert("RGB").tobytes()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the embedded base model."""
    folder = tmp_path_factory.mktemp("run")
    assert program.run(["evaluate", "model=tiny", *DATA, f"output_dir={folder}"]) == 0
    return folder


@pytest.fixture
def server(run: Path) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.seen, server.authorization, server.answers = [], set(), {}
    for line in (run / "predictions.jsonl").read_text().splitlines():
        record = json.loads(line)
        [image] = record["images"]
        server.answers[pixels(Path(image).read_bytes()), record["prefix"]] = record["text"]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def judge(server: Server, folder: Path, *more: str) -> int:
    url = f"endpoint=http://127.0.0.1:{server.server_port}/v1"
    command = ["evaluate", *DATA, url, "endpoint_model=digits", f"output_dir={folder}", *more]
    return program.run(command)


def test_a_server_with_the_answers_of_the_run_passes_with_its_metrics(
    server: Server,
    run: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-test")
    assert judge(server, tmp_path, f"predictions={run}", "max_difference=0") == 0
    printed = " ".join(capfd.readouterr().out.split())
    assert "24 of 24 answers are identical (100.0%)" in printed
    assert re.search(r"exact_match: \+0\.000 \(95 % interval \+0\.000 to \+0\.000\)", printed)
    expected, actual = (
        json.loads((folder / "metrics.json").read_text())["metrics"] for folder in (run, tmp_path)
    )
    assert actual == expected
    assert server.authorization == {"Bearer key-of-the-test"}
    assert len(server.seen) == 24
    for body in server.seen:
        assert body["model"] == "digits"
        assert body["temperature"] == 0
        assert body["skip_special_tokens"] is False
    assert "key-of-the-test" not in "".join(
        file.read_text(errors="ignore") for file in tmp_path.rglob("*") if file.is_file()
    )


def test_other_answers_are_listed_and_end_with_exit_code_1(
    server: Server, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for key in list(server.answers)[:12]:
        server.answers[key] = "wrong"
    assert judge(server, tmp_path / "a", f"predictions={run}") == 1
    output = capfd.readouterr()
    printed = " ".join(output.out.split())
    assert "12 of 24 answers are identical (50.0%)" in printed
    assert printed.count("became 'wrong'") == 3
    assert re.search(r"character_error_rate: \+\d\.\d{3} \(95 % interval \+\d\.\d{3} to", printed)
    [*_, sentence] = output.err.strip().splitlines()
    assert re.fullmatch(
        r"palitune: the server's answers must change no metric by more than max_difference=0\.01, "
        r"got [\d.]+\. Check the attention mask, dtype and adapter of the server, or increase "
        r"max_difference\.",
        sentence,
    )
    assert (tmp_path / "a/metrics.json").is_file()  # the results stay
    assert judge(server, tmp_path / "b", f"predictions={run}", "max_difference=2") == 0
    assert judge(server, tmp_path / "c") == 0  # without a run there is nothing to compare


def test_a_server_that_refuses_or_is_not_there_ends_in_one_sentence(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.status = 404
    assert judge(server, tmp_path / "a") == 1
    assert "refused a request with status 404" in capfd.readouterr().err.splitlines()[-1]
    nowhere = ["endpoint=http://127.0.0.1:9/v1", "endpoint_model=digits"]
    assert program.run(["evaluate", *DATA, *nowhere, f"output_dir={tmp_path}/b"]) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    assert "http://127.0.0.1:9/v1/chat/completions cannot be reached" in last
    wrong = [f"endpoint=http://127.0.0.1:{server.server_port}/v2", "endpoint_model=digits"]
    server.status = 200
    assert program.run(["evaluate", *DATA, *wrong, f"output_dir={tmp_path}/c"]) == 1
    assert "the answer is not a chat completion" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["endpoint=http://x/v1"], "endpoint and endpoint_model must be set together"),
        (["endpoint=x", "endpoint_model=m"], "endpoint must be an http address"),
        (
            ["endpoint=http://x/v1", "endpoint_model=m", "evaluation.num_beams=2"],
            "endpoint answers by free greedy generation",
        ),
        (
            ["endpoint=http://x/v1", "endpoint_model=m", "adapters=[a,b]"],
            "endpoint and adapters cannot be combined",
        ),
        (["max_difference=-1"], "max_difference must be at least 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    settings: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["evaluate", *DATA, *settings]) == 2
    assert message in capfd.readouterr().err


def test_a_busy_server_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_PAUSES", (0.0, 0.0, 0.0))
    body = {"messages": [{"content": [{"image_url": {"url": f"data:,{PNG}"}}, {"text": "x"}]}]}
    url = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
    server.refusals = 3
    assert "choices" in endpoint._post(url, body)
    assert len(server.seen) == 4
    server.refusals = 4
    with pytest.raises(EndpointError, match="status 503"):
        endpoint._post(url, body)
