"""What is written of each answer, and how answers are counted."""

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
def asked(tmp_path: Path) -> Example:
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


def written(
    folder: Path, asks: TaskPrompt, answers: list[tuple[Example, Prediction] | DataError]
) -> tuple[str, list[object]]:
    out = folder / "out"
    out.mkdir()
    write_prediction_report(out, asks, answers, skipped=["x.png is no image"], max_cards=2)
    lines = (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return (out / "predictions.html").read_text(encoding="utf-8"), [json.loads(x) for x in lines]


def test_a_record_has_everything_in_pixels(asked: Example) -> None:
    told = to_record(infer_task("segment boat", None), *answered(asked, (BOAT,)))
    assert told["id"] == "sub/a.png"
    assert told["task"] == "segmentation"
    assert (told["text"], told["confidence"]) == ("raw <text>", 0.25)
    assert (told["malformed"], told["finished"]) == (False, True)
    (instance,) = told["value"]
    assert (instance["box"], instance["score"]) == ([5, 5, 30, 20], 0.5)
    assert instance["mask"]["size"] == [40, 60]


def test_what_became_of_every_image_is_told(
    asked: Example, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cow = Instance("cow", (1, 1, 9, 9))
    answers = [
        answered(asked, (BOAT, BOAT, cow)),
        answered(asked, ()),
        answered(asked, None),
        answered(asked, (BOAT,), finished=False),
        DataError("y.png is no image"),
    ]
    page, records = written(tmp_path, infer_task("segment boat", None), answers)
    assert len(records) == 4
    said = " ".join(capfd.readouterr().out.split())
    counts = "1 with objects, 1 nothing found, 1 malformed, 1 cut off, 2 unreadable"
    assert f"images: {counts}" in said
    assert counts in page
    assert "not asked for: cow" in page
    assert "boat 3 2" in said
    assert (tmp_path / "out/skipped.txt").read_text() == "x.png is no image\ny.png is no image\n"
    assert page.count('<article class="card"') == 2
    assert Image.open(tmp_path / "out/drawn/sub/a.png").size == (300, 200)


def test_answers_in_text_are_counted_and_not_drawn(asked: Example, tmp_path: Path) -> None:
    answers: list[tuple[Example, Prediction] | DataError] = [
        answered(asked, "73"),
        answered(asked, ""),
    ]
    page, _ = written(tmp_path, infer_task("ocr", None), answers)
    assert "1 answered, 1 empty, 1 unreadable" in page
    assert not (tmp_path / "out/drawn").exists()
    assert not (tmp_path / "out/coco_results.json").exists()
