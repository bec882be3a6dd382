"""Files of predictions: of a run, handwritten, COCO results; errors name their location."""

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
from palitune.evaluation.prediction_files import load_predictions, predicted_datasets
from palitune.evaluation.scoring import score_predictions
from palitune.records import Prediction, mask_to_json
from palitune.tasks.detection import Detection
from palitune.tasks.ocr import Ocr
from palitune.tasks.vqa import Vqa

from support.toy_data import SIZE

SETTINGS = EvaluationConfig(bootstrap_samples=0)


def lines(file: Path, *entries: Any) -> Path:
    text = "".join((e if isinstance(e, str) else json.dumps(e)) + "\n" for e in entries)
    file.write_text(text, encoding="utf-8")
    return file


def test_predictions_of_a_run_are_loaded_unchanged(
    jsonl: Jsonl, tmp_path: Path, perfect: Callable[[TaskDataset], list[Prediction]]
) -> None:
    datasets = [
        load_split(jsonl, task, "test")[0]
        for task in (Ocr(), Detection(classes=["red", "green", "blue"]))
    ]
    predictions = [perfect(dataset) for dataset in datasets]
    predictions[0][1] = Prediction(
        id="test-1", text="cut", value="cut", finished=False, confidence=0.1 + 0.2
    )
    predictions[1][2] = Prediction(id="test-2", text="<loc0001>", value=None, missing=True)
    results = score_predictions(datasets, predictions, SETTINGS)
    results.write_predictions(tmp_path / "predictions.jsonl")
    for path in (tmp_path, tmp_path / "predictions.jsonl"):
        assert load_predictions(path, datasets, SETTINGS) == predictions
    first_two = load_predictions(tmp_path, datasets, EvaluationConfig(max_samples=2))
    assert first_two == [predicted[:2] for predicted in predictions]


@pytest.mark.parametrize("name", ["text", "answer", "caption"])
def test_text_is_parsed_like_generated_text(name: str, jsonl: Jsonl, tmp_path: Path) -> None:
    datasets = load_split(jsonl, Detection(classes=["red"]), "test")
    text = "<loc0000><loc0000><loc1023><loc1023> red"
    [predictions] = load_predictions(
        lines(tmp_path / "a.jsonl", {"id": "test-1", name: text}), datasets, SETTINGS
    )
    assert predictions[1].value == datasets[0].task.parse(text, SIZE)
    assert [prediction.missing for prediction in predictions] == [True, False, True, True]
    assert predictions[0].value == ()


def test_coco_results_need_no_entry_for_an_image_without_objects(
    coco: Coco, tmp_path: Path
) -> None:
    datasets = load_split(coco, Detection(), "test")
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[10:20, 30:60] = True
    results = [
        {"image_id": 2, "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.25},
        {"image_id": 2, "category_id": 1, "segmentation": mask_to_json(mask), "score": 1},
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    [predictions] = load_predictions(tmp_path / "results.json", datasets, SETTINGS)
    assert [len(prediction.value or ()) for prediction in predictions] == [0, 0, 2, 0]
    assert not any(prediction.missing for prediction in predictions)
    red, blue = predictions[2].value  # type: ignore[misc]
    assert (red.label, red.box, red.score) == ("red", (1, 2, 31, 42), 0.25)  # type: ignore[union-attr]
    assert (blue.label, blue.box) == ("blue", (30, 10, 60, 20))  # type: ignore[union-attr]
    (tmp_path / "results.json").write_text("[]")
    [predictions] = load_predictions(tmp_path / "results.json", datasets, SETTINGS)
    assert [prediction.value for prediction in predictions] == [()] * 4


FOUND = {"bbox": [1, 2, 30, 40], "score": 0.25}


@pytest.mark.parametrize(
    "keys",
    [
        {"image_id": 2, "category_id": 3},
        {"image_id": 2, "category": "red"},
        {"image": "test/{name}.png", "category": "red"},
        {"file_name": "{name}.png", "image_id": "nothing", "category_id": 3},
        {"image_id": "{name}", "category": "red"},
    ],
)
@pytest.mark.parametrize("in_lines", [False, True])
def test_an_object_names_image_and_class_by_id_or_by_name(
    keys: dict[str, Any], in_lines: bool, coco: Coco, tmp_path: Path
) -> None:
    datasets = load_split(coco, Detection(), "test")
    name = Path(datasets[0].examples[2].images[0]).stem
    entry = {k: v.format(name=name) if isinstance(v, str) else v for k, v in keys.items()} | FOUND
    file = tmp_path / "results"
    if in_lines:
        lines(file, entry, entry)
    else:
        file.write_text(json.dumps([entry, entry]))
    [predictions] = load_predictions(file, datasets, SETTINGS)
    assert [len(prediction.value or ()) for prediction in predictions] == [0, 0, 2, 0]
    [red, _] = predictions[2].value  # type: ignore[misc]
    assert (red.label, red.box, red.score) == ("red", (1, 2, 31, 42), 0.25)  # type: ignore[union-attr]


def test_an_image_with_several_examples_must_be_named_by_example(
    jsonl: Jsonl, tmp_path: Path
) -> None:
    [dataset] = load_split(jsonl, Detection(classes=["red"]), "test")
    name = Path(dataset.examples[0].images[0]).name
    rows = (Path(jsonl.path) / "test.jsonl").read_text().splitlines()
    twice = json.loads(rows[1]) | {"image": json.loads(rows[0])["image"]}
    (tmp_path / "images").symlink_to(Path(jsonl.path).resolve() / "images")
    (tmp_path / "test.jsonl").write_text(f"{rows[0]}\n{json.dumps(twice)}\n")
    datasets = load_split(Jsonl(path=str(tmp_path)), Detection(classes=["red"]), "test")
    file = lines(tmp_path / "a.jsonl", {"image": name, "category": "red", **FOUND})
    with pytest.raises(DataError, match=r"a\.jsonl:1: image .* has 2 examples in detection, 't"):
        load_predictions(file, datasets, SETTINGS)


def test_an_entry_of_a_list_is_located_by_its_line(coco: Coco, tmp_path: Path) -> None:
    datasets = load_split(coco, Detection(), "test")
    good = {"image_id": 0, "category_id": 1, **FOUND}
    for bad, message in (
        (good | {"image_id": 99}, "id '99' is not in split 'test'"),
        (good | {"bbox": [1, 2, float("nan"), 4]}, "a box must be four finite numbers"),
        (good | {"score": float("nan")}, r"a score must be a number in \[0, 1\], got nan"),
        ({"image_id": 0, "category": "dog", **FOUND}, "category must be a class of detection"),
    ):
        (tmp_path / "a.json").write_text(json.dumps([good, good, bad], indent=1))
        number = 2 + 2 * json.dumps(good, indent=1).count("\n") + 2
        with pytest.raises(DataError, match=rf"a\.json:{number}, entry 3: .*{message}"):
            load_predictions(tmp_path / "a.json", datasets, SETTINGS)


def test_only_datasets_with_entries_are_predicted(jsonl: Jsonl, tmp_path: Path) -> None:
    datasets = load_split(jsonl, Vqa(), "test") + load_split(jsonl, Ocr(), "test")
    file = lines(tmp_path / "a.jsonl", {"id": "test-0", "part": "ocr", "text": "2"})
    assert predicted_datasets(file, datasets) == datasets[1:]
    assert predicted_datasets(file, datasets[:1]) == datasets[:1]
    with pytest.raises(DataError, match=r"a\.jsonl:1: 'part' must be the dataset"):
        predicted_datasets(lines(file, {"id": "test-0", "text": "2"}), datasets)


INVALID: dict[str, tuple[list[Any], str]] = {
    "no JSON": (['{"id": '], r"a\.jsonl:1: invalid JSON"),
    "no object": ([3], r"a\.jsonl:1: a prediction must be a JSON object, e\.g\. \{"),
    "no id": ([{"text": "2"}], r"a\.jsonl:1: the prediction has no id. Add the key 'id'"),
    "no text": (
        [{"id": "test-0"}],
        r"a\.jsonl:1: a prediction must have exactly one of the keys text, ",
    ),
    "two texts": (
        [{"id": "test-0", "text": "a", "answer": "b"}],
        "must have exactly one of the keys text, answer, caption",
    ),
    "an unknown id": ([{"id": "x", "text": "2"}], "id 'x' is not in split 'test' of vqa"),
    "an id twice": (
        [{"id": "test-0", "text": "2"}] * 2,
        "already has a prediction at .*:1. Keep one",
    ),
    "half a record": ([{"id": "test-0", "prediction": "2"}], "invalid record, 'text' is missing"),
    "nothing": ([], "contains no predictions"),
}


@pytest.mark.parametrize(("entries", "message"), INVALID.values(), ids=INVALID)
def test_an_invalid_entry_raises_an_error_with_its_location(
    entries: list[Any], message: str, jsonl: Jsonl, tmp_path: Path
) -> None:
    datasets = load_split(jsonl, Vqa(), "test")
    with pytest.raises(DataError, match=message):
        load_predictions(lines(tmp_path / "a.jsonl", *entries), datasets, SETTINGS)


INVALID_RESULTS: dict[str, tuple[dict[str, Any], str]] = {
    "class": (
        {"category_id": 7, "bbox": [1, 2, 3, 4]},
        "category_id 7 is not a class id of data=coco",
    ),
    "box": ({"category_id": 1, "bbox": [1, 2, 3]}, "bbox must be .x, y, width, height. in pixels"),
    "no box": ({"category_id": 1}, r"bbox must be \[x, y, width, height\].*, got None"),
    "score": (
        {"category_id": 1, "bbox": [1, 2, 3, 4], "score": "high"},
        r"a score must be a number in \[0, 1\], got 'high'",
    ),
    "mask": (
        {"category_id": 1, "segmentation": {"size": [3, 3], "counts": "9"}},
        r"entry 1: run lengths must have the size \[64, 96\] .* of the image, got \[3, 3\]",
    ),
}


@pytest.mark.parametrize(("result", "message"), INVALID_RESULTS.values(), ids=INVALID_RESULTS)
def test_an_invalid_coco_result_raises_an_error_with_its_location(
    result: dict[str, Any], message: str, coco: Coco, tmp_path: Path
) -> None:
    datasets = load_split(coco, Detection(), "test")
    (tmp_path / "results.json").write_text(json.dumps([{"image_id": 0} | result]))
    with pytest.raises(DataError, match=message):
        load_predictions(tmp_path / "results.json", datasets, SETTINGS)


def test_with_several_datasets_a_prediction_must_name_its_dataset(
    jsonl: Jsonl, tmp_path: Path
) -> None:
    datasets = load_split(jsonl, Vqa(), "test") + load_split(jsonl, Ocr(), "test")
    with pytest.raises(
        DataError, match=r"'part' must be the dataset of the prediction, one of vqa, ocr"
    ):
        load_predictions(
            lines(tmp_path / "a.jsonl", {"id": "test-0", "text": "2"}), datasets, SETTINGS
        )
    entry = {"id": "test-0", "text": "red", "part": "ocr"}
    vqa, ocr = load_predictions(lines(tmp_path / "a.jsonl", entry), datasets, SETTINGS)
    assert [predictions[0].missing for predictions in (vqa, ocr)] == [True, False]


def test_a_missing_file_raises_an_error(jsonl: Jsonl, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"predictions: cannot read .*run folder"):
        load_predictions(tmp_path, load_split(jsonl, Vqa(), "test"), SETTINGS)


BOX = {"id": "test-0", "text": "", "prediction": [{"label": "red", "box": [1, 2, 3, 4]}]}


def with_object(**fields: Any) -> dict[str, Any]:
    return BOX | {"prediction": [{"label": "red", "box": [1, 2, 3, 4]} | fields]}


DAMAGED_RECORDS: dict[str, tuple[Any, str]] = {
    "NaN in a box": (with_object(box=[1, 2, 3, float("nan")]), "four finite numbers"),
    "an infinite box": (with_object(box=[1, 2, float("inf"), 4]), "four finite numbers"),
    "an endless integer": (with_object(box=[1, 2, 10**400, 4]), "four finite numbers"),
    "a boolean box": (with_object(box=[True, 2, 3, 4]), "four finite numbers"),
    "a negative width": (with_object(box=[9, 2, 3, 4]), "a width and a height of at least 0"),
    "three numbers": (with_object(box=[1, 2, 3]), "four finite numbers"),
    "no box": (BOX | {"prediction": [{"label": "red"}]}, "four finite numbers"),
    "no label": (BOX | {"prediction": [{"box": [1, 2, 3, 4]}]}, "must have a label"),
    "a NaN score": (with_object(score=float("nan")), r"score must be a number in \[0, 1\]"),
    "a boolean score": (with_object(score=True), "score must be a number"),
    "a negative score": (with_object(score=-0.5), "score must be a number"),
    "a mask of another size": (
        with_object(mask={"size": [2, 2], "counts": "04"}), "run lengths must have the size",
    ),
    "a mask that does not add up": (
        with_object(mask={"size": [SIZE[1], SIZE[0]], "counts": "1"}), "run lengths must add up",
    ),
    "a number as text": (BOX | {"text": 3}, "text must be a string"),
    "a number as value": (BOX | {"prediction": 3}, "a value must be text, objects or null"),
    "half a surrogate pair": ({"id": "test-0", "text": "\ud800"}, "surrogate"),
    "brackets without end": ('{"id": ' + "[" * 200_000, "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize(("entry", "message"), DAMAGED_RECORDS.values(), ids=DAMAGED_RECORDS)
def test_a_damaged_record_raises_an_error_with_its_location(
    entry: Any, message: str, jsonl: Jsonl, tmp_path: Path
) -> None:
    datasets = load_split(jsonl, Detection(classes=["red"]), "test")
    with pytest.raises(DataError, match=message) as raised:
        load_predictions(lines(tmp_path / "a.jsonl", entry), datasets, SETTINGS)
    assert f"{tmp_path / 'a.jsonl'}:1: " in str(raised.value)
    assert len(str(raised.value)) < 500


DAMAGED_RESULTS: dict[str, dict[str, Any]] = {
    "NaN in the box": {"bbox": [1, 2, float("nan"), 4], "score": 0.5},
    "an infinite box": {"bbox": [1, 2, float("inf"), 4], "score": 0.5},
    "a boolean": {"bbox": [True, 2, 3, 4], "score": 0.5},
    "a negative width": {"bbox": [5, 2, -3, 4], "score": 0.5},
    "a string": {"bbox": "1234", "score": 0.5},
    "a NaN score": {"bbox": [1, 2, 3, 4], "score": float("nan")},
    "a negative score": {"bbox": [1, 2, 3, 4], "score": -1},
    "a boolean score": {"bbox": [1, 2, 3, 4], "score": True},
    "neither box nor mask": {"score": 0.5},
    "an empty box and an empty mask": {"score": 0.5, "bbox": None, "segmentation": []},
}


@pytest.mark.parametrize("fields", DAMAGED_RESULTS.values(), ids=DAMAGED_RESULTS)
def test_a_damaged_result_raises_an_error_with_its_location(
    fields: dict[str, Any], coco: Coco, tmp_path: Path
) -> None:
    datasets = load_split(coco, Detection(), "test")
    file = tmp_path / "results.json"
    file.write_text(json.dumps([{"image_id": 2, "category_id": 3} | fields]))
    with pytest.raises(DataError, match=r"results\.json:1, entry 1: bbox must be"):
        load_predictions(file, datasets, SETTINGS)
