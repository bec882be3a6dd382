"""Files of predictions: of a run, by hand, of COCO; faults are told with their place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palitune.data.dataset import TaskDataset, load_split
from palitune.data.sources.coco import Coco
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import DataError
from palitune.evaluation.config import EvaluationConfig
from palitune.evaluation.prediction_files import load_predictions
from palitune.evaluation.prediction_records import PredictionRecord
from palitune.evaluation.scoring import score_predictions
from palitune.records import mask_to_json
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr
from palitune.tasks.vqa import Vqa

from support.toy_data import SIZE

SETTINGS = EvaluationConfig(bootstrap_samples=0)


def lines(file: Path, *entries: Any) -> Path:
    text = "".join((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in entries)
    file.write_text(text, encoding="utf-8")
    return file


def test_what_a_run_wrote_is_read_as_it_was(
    jsonl: Jsonl, tmp_path: Path, right: Callable[[TaskDataset], list[PredictionRecord]]
) -> None:
    parts = [
        load_split(jsonl, task, "test")[0]
        for task in (Ocr(), Detection(classes=["red", "green", "blue"]))
    ]
    answers = [right(part) for part in parts]
    answers[0][1] = PredictionRecord(text="cut", value="cut", finished=False, confidence=0.1 + 0.2)
    answers[1][2] = PredictionRecord(text="<loc0001>", value=None, missing=True)
    results = score_predictions(parts, answers, SETTINGS)
    results.write_predictions(tmp_path / "predictions.jsonl")
    for path in (tmp_path, tmp_path / "predictions.jsonl"):
        assert load_predictions(path, parts, SETTINGS) == answers
    first_two = load_predictions(tmp_path, parts, EvaluationConfig(max_samples=2))
    assert first_two == [part[:2] for part in answers]


@pytest.mark.parametrize("name", ["text", "answer", "caption"])
def test_a_text_is_read_as_if_a_model_had_written_it(
    name: str, jsonl: Jsonl, tmp_path: Path
) -> None:
    parts = load_split(jsonl, Detection(classes=["red"]), "test")
    text = "<loc0000><loc0000><loc1023><loc1023> red"
    [found] = load_predictions(
        lines(tmp_path / "a.jsonl", {"id": "test-1", name: text}), parts, SETTINGS
    )
    assert found[1].value == parts[0].task.parse(text, SIZE)
    assert [answer.missing for answer in found] == [True, False, True, True]
    assert found[0].value == ()


def test_objects_of_coco_need_no_entry_for_an_empty_image(coco: Coco, tmp_path: Path) -> None:
    parts = load_split(coco, Detection(), "test")
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[10:20, 30:60] = True
    results = [
        {"image_id": 2, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.25},
        {"image_id": 2, "category_id": 1, "segmentation": mask_to_json(mask), "score": 1},
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    [found] = load_predictions(tmp_path / "results.json", parts, SETTINGS)
    assert [len(answer.value or ()) for answer in found] == [0, 0, 2, 0]
    assert not any(answer.missing for answer in found)
    red, blue = found[2].value  # type: ignore[misc]
    assert (red.label, red.box, red.score) == ("red", (1, 2, 31, 42), 0.25)  # type: ignore[union-attr]
    assert (blue.label, blue.box) == ("blue", (30, 10, 60, 20))  # type: ignore[union-attr]
    (tmp_path / "results.json").write_text("[]")
    [found] = load_predictions(tmp_path / "results.json", parts, SETTINGS)
    assert [answer.value for answer in found] == [()] * 4


ODD: dict[str, tuple[list[Any], str]] = {
    "no JSON": (['{"id": '], r"a\.jsonl:1: not JSON"),
    "no object": ([3], r"a\.jsonl:1: not a prediction; write \{"),
    "no id": ([{"text": "2"}], r"a\.jsonl:1: a prediction needs an id, called id"),
    "no text": ([{"id": "test-0"}], r"a\.jsonl:1: a prediction needs one text, called text, "),
    "two texts": ([{"id": "test-0", "text": "a", "answer": "b"}], "needs one text"),
    "an unknown id": ([{"id": "x", "text": "2"}], "id 'x' is none of split 'test' of vqa"),
    "an id twice": ([{"id": "test-0", "text": "2"}] * 2, "has a prediction already, at .*:1; keep"),
    "half a record": ([{"id": "test-0", "prediction": "2"}], "the record lacks 'text'"),
    "nothing": ([], "there are no predictions in it"),
}


@pytest.mark.parametrize(("entries", "said"), ODD.values(), ids=ODD)
def test_what_is_wrong_is_one_sentence(
    entries: list[Any], said: str, jsonl: Jsonl, tmp_path: Path
) -> None:
    parts = load_split(jsonl, Vqa(), "test")
    with pytest.raises(DataError, match=said):
        load_predictions(lines(tmp_path / "a.jsonl", *entries), parts, SETTINGS)


ODD_RESULTS: dict[str, tuple[dict[str, Any], str]] = {
    "class": ({"category_id": 7, "bbox": [1, 2, 3, 4]}, "category_id 7 is none of the classes"),
    "box": ({"category_id": 1, "bbox": [1, 2, 3]}, "must be .x, y, width, height. in pixels"),
    "score": ({"category_id": 1, "bbox": [1, 2, 3, 4], "score": "high"}, "score 'high' a number"),
    "mask": (
        {"category_id": 1, "segmentation": {"size": [3, 3], "counts": "9"}},
        r"entry 1: run lengths must have the size \[64, 96\] .* of the image, got \[3, 3\]",
    ),
}


@pytest.mark.parametrize(("result", "said"), ODD_RESULTS.values(), ids=ODD_RESULTS)
def test_what_is_wrong_with_a_result_of_coco_is_one_sentence(
    result: dict[str, Any], said: str, coco: Coco, tmp_path: Path
) -> None:
    parts = load_split(coco, Detection(), "test")
    (tmp_path / "results.json").write_text(json.dumps([{"image_id": 0} | result]))
    with pytest.raises(DataError, match=said):
        load_predictions(tmp_path / "results.json", parts, SETTINGS)


def test_of_several_parts_a_prediction_says_which(jsonl: Jsonl, tmp_path: Path) -> None:
    parts = load_split(jsonl, Vqa(), "test") + load_split(jsonl, Ocr(), "test")
    with pytest.raises(DataError, match=r"'part' has to name the data set .* one of vqa, ocr"):
        load_predictions(
            lines(tmp_path / "a.jsonl", {"id": "test-0", "text": "2"}), parts, SETTINGS
        )
    entry = {"id": "test-0", "text": "red", "part": "ocr"}
    asked, text = load_predictions(lines(tmp_path / "a.jsonl", entry), parts, SETTINGS)
    assert [answer.missing for answer in (asked[0], text[0])] == [True, False]


def test_a_file_that_is_not_there_is_told(jsonl: Jsonl, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"predictions: .* cannot be read .*folder of a run"):
        load_predictions(tmp_path, load_split(jsonl, Vqa(), "test"), SETTINGS)
