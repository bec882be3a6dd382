"""`palitune serve` by command line, and its playground in a browser."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from palitune import __main__ as program
from palitune.data.sources.embedded import Handwriting

from support.browser import DESKTOP, PHONE, open_page


@contextmanager
def server(
    folder: Path, *arguments: str
) -> Iterator[tuple[str, "subprocess.Popen[str]", list[str]]]:
    """Start a server on a free port; yield its address, its process and what it printed before."""
    command = [sys.executable, "-m", "palitune", "serve", "port=0", *arguments]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    printed: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            printed.append(line)
            if match := re.search(r"serving on (http://\S+)", line):
                yield match[1], process, printed
                break
        else:
            pytest.fail(f"the server ended: {printed}")
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the run of a short training with boxes and texts."""
    folder = tmp_path_factory.mktemp("serve")
    assert (
        program.run(
            [
                *("finetune", "experiment=quickstart", "training.max_steps=1"),
                *("evaluate_before=false", "training.validation_split=null"),
                *("training.best_metric=null", "training.self_check=false"),
                *("evaluation.max_samples=6", "evaluation.num_workers=0"),
                *("training.num_workers=0", f"output_dir={folder / 'run'}"),
            ]
        )
        == 0
    )
    return folder


def post(address: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{address}/v1/predict", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def test_a_run_is_checked_served_and_ends_after_sigterm(run: Path, tmp_path: Path) -> None:
    with server(run, "--run", "run") as (address, process, printed):
        text = " ".join("".join(printed).split())
        assert "mask: image and prefix attend to each other in both directions" in text
        assert re.search(r"stored predictions: (\d+) of \1 identical", text)
        with urllib.request.urlopen(f"{address}/v1/models", timeout=60) as response:
            names = [model["id"] for model in json.load(response)["data"]]
        assert names == ["run", "base"]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            post(address, {"image": "x", "prompt": "ocr"})
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_playground_draws_answers_of_both_models_and_keeps_corrections(
    run: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    page = Image.open(Handwriting().resolved_path() / "images" / "test-0003.png").convert("RGB")
    page.resize((2016, 2016)).save(photo)
    with server(run, "--run", "run") as (address, _, _):
        with open_page(address, DESKTOP) as visit:
            window = visit.page
            window.wait_for_selector("#adapters input >> nth=1")
            window.set_input_files("#file", photo)
            window.fill("#prompt", "detect 1 ; 2 ; 3")
            window.check("#constrained")
            window.check("#adapters input[value=base]")
            window.keyboard.press("Control+Enter")
            window.wait_for_selector(".answer:nth-child(2)")
            assert window.locator(".answer h2").all_inner_texts() == ["run", "base"]
            first = window.locator(".answer").first
            num_objects = first.locator(".objects li:not(.meta)").count()
            assert first.locator("svg rect").count() == num_objects
            window.evaluate(
                "() => { const t = document.getElementById('threshold'); t.value = 1;"
                " t.dispatchEvent(new Event('input')); }"
            )
            assert first.locator("svg rect").count() == 0
            window.evaluate(
                "() => { const t = document.getElementById('threshold'); t.value = 0;"
                " t.dispatchEvent(new Event('input')); }"
            )
            area = first.locator(".canvas").bounding_box()
            window.mouse.move(area["x"] + 20, area["y"] + 20)
            window.mouse.down()
            window.mouse.move(area["x"] + 90, area["y"] + 120)
            window.mouse.up()
            assert first.locator(".objects li:not(.meta)").count() == num_objects + 1
            first.locator(".objects input").last.fill("boat")
            first.locator(".objects input").last.press("Tab")
            first.get_by_role("button", name="Keep").click()
            with window.expect_download() as download:
                window.click("#download")
            archive = zipfile.ZipFile(download.value.path())
            content = json.loads(archive.read("train/_annotations.coco.json"))
            assert len(content["annotations"]) == num_objects + 1
            assert "boat" in [category["name"] for category in content["categories"]]
            window.locator("#history button").first.click()
            assert visit.overflow() <= 0
            assert visit.errors == []
        with open_page(address, PHONE) as visit:
            visit.page.wait_for_selector("#samples button")
            visit.page.click("#samples button >> nth=0")
            visit.page.click("#ask")
            visit.page.wait_for_selector(".answer textarea")
            assert visit.overflow() <= 0
            assert visit.errors == []
        with open_page(address, PHONE) as visit:
            visit.page.wait_for_selector("#samples button")
            visit.page.goto(f"{address}/docs")
            visit.page.wait_for_selector("#routes article >> nth=3")
            assert "/v1/predict" in visit.page.inner_text("#routes")
            assert visit.errors == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["host=0.0.0.0"], "host must be a loopback address without api_key, got 0.0.0.0."),
        (["adapters=[boats]"], "adapters must be NAME=FOLDER, got 'boats'."),
        (["max_queue=0"], "max_queue must be at least 1, got 0."),
    ],
)
def test_a_bad_setting_is_one_sentence(
    arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["serve", "model=tiny", *arguments]) == 2
    assert said in " ".join(capfd.readouterr().err.split())
