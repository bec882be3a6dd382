"""Records, counts and files of predictions on new images."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palitune.errors import DataError
from palitune.records import Example, Instance, Prediction, Value
from palitune.report.pages.predictions import to_record, write_prediction_report
from palitune.tasks.infer_task import TaskPrompt, infer_task

MASK = np.zeros((40, 60), bool)
MASK[5:20, 5:30] = True
BOAT = Instance("boat", (5, 5, 30, 20), MASK, score=0.5)


@pytest.fixture
def example(tmp_path: Path) -> Example:
    file = tmp_path / "a.png"
    Image.new("RGB", (60, 40), "white").save(file)
    return Example(
        id="sub/a.png",
        images=(str(file),),
        size=(60, 40),
        prefix="segment boat",
        suffixes=(),
        reference=(),
        location="images: a.png",
    )


def answered(
    example: Example, value: Value | None, finished: bool = True
) -> tuple[Example, Prediction]:
    return example, Prediction(
        id=example.id, text="raw <text>", value=value, confidence=0.25, finished=finished
    )


def write_report(
    folder: Path, task_prompt: TaskPrompt, outputs: list[tuple[Example, Prediction] | DataError]
) -> tuple[str, list[object]]:
    out = folder / "out"
    out.mkdir()
    write_prediction_report(out, task_prompt, outputs, skipped=["x.png is no image"], max_cards=2)
    lines = (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return (out / "predictions.html").read_text(encoding="utf-8"), [json.loads(x) for x in lines]


def test_a_record_has_boxes_and_masks_in_pixels(example: Example) -> None:
    record = to_record(infer_task("segment boat", None), *answered(example, (BOAT,)))
    assert record["id"] == "sub/a.png"
    assert record["task"] == "segmentation"
    assert (record["text"], record["confidence"]) == ("raw <text>", 0.25)
    assert (record["malformed"], record["finished"]) == (False, True)
    (instance,) = record["value"]
    assert (instance["box"], instance["score"]) == ([5, 5, 30, 20], 0.5)
    assert instance["mask"]["size"] == [40, 60]


def test_every_image_is_counted_by_its_status(
    example: Example, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cow = Instance("cow", (1, 1, 9, 9))
    outputs = [
        answered(example, (BOAT, BOAT, cow)),
        answered(example, ()),
        answered(example, None),
        answered(example, (BOAT,), finished=False),
        DataError("y.png is no image"),
    ]
    page, records = write_report(tmp_path, infer_task("segment boat", None), outputs)
    assert len(records) == 4
    stdout = " ".join(capfd.readouterr().out.split())
    counts = "1 with objects, 1 nothing found, 1 malformed, 1 cut off, 2 unreadable"
    assert f"images: {counts}" in stdout
    assert counts in page
    assert "not in the prompt: cow" in page
    assert "boat 3 2" in stdout
    assert (tmp_path / "out/skipped.txt").read_text() == "x.png is no image\ny.png is no image\n"
    assert page.count('<article class="card') == 2
    assert Image.open(tmp_path / "out/drawn/sub/a.png").size == (300, 200)


def test_text_answers_are_counted_and_not_drawn(example: Example, tmp_path: Path) -> None:
    outputs: list[tuple[Example, Prediction] | DataError] = [
        answered(example, "73"),
        answered(example, ""),
    ]
    page, _ = write_report(tmp_path, infer_task("ocr", None), outputs)
    assert "1 answered, 1 empty, 1 unreadable" in page
    assert not (tmp_path / "out/drawn").exists()
    assert not (tmp_path / "out/coco_results.json").exists()
