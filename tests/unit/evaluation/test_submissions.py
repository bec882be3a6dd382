"""Submissions have the format of their test server and the ids of the dataset."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from palitune.data.dataset import TaskDataset, load_split
from palitune.data.sources.coco import Coco, CocoAnnotationKind
from palitune.data.sources.jsonl import Jsonl
from palitune.errors import DataError
from palitune.evaluation import prediction_files, submissions
from palitune.evaluation.config import EvaluationConfig, Submission
from palitune.evaluation.scoring import score_predictions
from palitune.records import Prediction, mask_from_json
from palitune.tasks.caption import Caption
from palitune.tasks.detection import Detection
from palitune.tasks.referring_detection import ReferringDetection
from palitune.tasks.segmentation import Segmentation
from palitune.tasks.vqa import Vqa

from support.toy_data import SIZE, draw_toy_image, toy_mask

Entries = list[dict[str, Any]]
Perfect = Callable[[TaskDataset], list[Prediction]]
QUESTIONS = {
    Submission.docvqa: "questionId",
    Submission.infovqa: "questionId",
    Submission.stvqa: "question_id",
    Submission.vqav2: "question_id",
    Submission.textvqa: "question_id",
}


def questions(folder: Path) -> TaskDataset:
    """Four questions with numeric ids."""
    rows = [
        {
            "id": 262148000 + n,
            "image": draw_toy_image(folder, "test", n),
            "question": "?",
            "answers": [f"{n}"],
        }
        for n in range(4)
    ]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_split(Jsonl(path=str(folder)), Vqa(), "test")[0]


def write_entries(
    folder: Path, kind: Submission, dataset: TaskDataset, predictions: list[Prediction]
) -> Entries:
    submissions.check_submission(kind, [dataset])
    file = submissions.write_submission(folder, kind, dataset, predictions)
    assert file == folder / "submission.json"
    entries: Entries = json.loads(file.read_text())
    return entries


@pytest.mark.parametrize("kind", QUESTIONS)
def test_answers_have_integer_ids(kind: Submission, tmp_path: Path, perfect: Perfect) -> None:
    dataset = questions(tmp_path)
    predictions = [*perfect(dataset)[:3], Prediction(id="262148003", text="<loc", value=None)]
    assert write_entries(tmp_path, kind, dataset, predictions) == [
        {QUESTIONS[kind]: 262148000, "answer": "0"},
        {QUESTIONS[kind]: 262148001, "answer": "1"},
        {QUESTIONS[kind]: 262148002, "answer": "2"},
        {QUESTIONS[kind]: 262148003, "answer": ""},
    ]


def test_vizwiz_entries_have_image_names(tmp_path: Path, perfect: Perfect) -> None:
    dataset = questions(tmp_path)
    entries = write_entries(tmp_path, Submission.vizwiz, dataset, perfect(dataset))
    assert entries[1] == {"image": "test_01.png", "answer": "1"}
    back = prediction_files.load_predictions(
        tmp_path / "submission.json", [dataset], EvaluationConfig()
    )
    assert [prediction.value for prediction in back[0]] == ["0", "1", "2", "3"]


def test_captions_load_as_coco_results(coco: Coco, tmp_path: Path, perfect: Perfect) -> None:
    source = Coco(path=coco.path, annotations=CocoAnnotationKind.captions)
    dataset = load_split(source, Caption(metrics=["cider_d"]), "test")[0]
    entries = write_entries(tmp_path, Submission.coco_captions, dataset, perfect(dataset))
    assert [set(entry) for entry in entries] == [{"image_id", "caption"}] * 4
    official = COCO(str(source.annotation_file("test")))
    loaded = official.loadRes(str(tmp_path / "submission.json"))
    assert sorted(loaded.getImgIds()) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [Submission.coco_detection, Submission.coco_segmentation])
def test_objects_load_as_coco_results_and_read_back_unchanged(
    kind: Submission, coco: Coco, tmp_path: Path, perfect: Perfect
) -> None:
    with_masks = kind is Submission.coco_segmentation
    task = Detection()
    if with_masks:
        file = coco.annotation_file("test")
        content = json.loads(file.read_text())
        for entry in content["annotations"]:
            x, y, width, height = entry["bbox"]
            outline = toy_mask(SIZE, (x, y, x + width, y + height))
            entry["segmentation"] = uncompressed(outline)
        file.write_text(json.dumps(content))
        task = Segmentation()
    dataset = load_split(Coco(path=coco.path, masks=with_masks), task, "test")[0]
    predictions = perfect(dataset)
    entries = write_entries(tmp_path, kind, dataset, predictions)
    shape = "segmentation" if with_masks else "bbox"
    assert {key for entry in entries for key in entry} == {
        "image_id", "category_id", shape, "score",
    }  # fmt: skip
    assert {entry["score"] for entry in entries} == {0.5}
    official = COCO(str(coco.annotation_file("test")))
    loaded = official.loadRes(str(tmp_path / "submission.json"))
    assert len(loaded.getAnnIds()) == len(entries) == sum(len(p.value or ()) for p in predictions)
    back = prediction_files.load_predictions(
        tmp_path / "submission.json", [dataset], EvaluationConfig()
    )
    metrics = [
        score_predictions([dataset], [predicted], EvaluationConfig()).metrics
        for predicted in (predictions, *back)
    ]
    assert metrics[0] == pytest.approx(metrics[1], nan_ok=True)
    if with_masks:
        first = mask_from_json(entries[0]["segmentation"])
        assert first.shape == (SIZE[1], SIZE[0])


def uncompressed(mask: Any) -> dict[str, Any]:
    """COCO's run lengths as a list: zeros first, down the columns."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(0)
            value = bool(pixel)
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def test_referring_expressions_have_two_ids(tmp_path: Path, perfect: Perfect) -> None:
    boat = {"label": "boat", "box": [10, 10, 50, 40]}
    row = {
        "image": draw_toy_image(tmp_path, "test", 0),
        "expression": "the boat",
        "instances": [boat],
    }
    (tmp_path / "test.jsonl").write_text(json.dumps({"id": "17-4203"} | row) + "\n")
    dataset = load_split(Jsonl(path=str(tmp_path)), ReferringDetection(), "test")[0]
    predictions = perfect(dataset)
    [entry] = write_entries(tmp_path, Submission.refcoco, dataset, predictions)
    assert (entry["ref_id"], entry["sent_id"]) == (17, 4203)
    assert entry["bbox"] == pytest.approx([10, 10, 40, 30], abs=0.1)
    [[back]] = prediction_files.load_predictions(
        tmp_path / "submission.json", [dataset], EvaluationConfig()
    )
    assert back.value[0].box == pytest.approx(predictions[0].value[0].box)  # type: ignore[index,union-attr]


def test_an_impossible_submission_raises_an_error(tmp_path: Path, jsonl: Jsonl, coco: Coco) -> None:
    vqa = load_split(jsonl, Vqa(), "test")
    boxes = load_split(jsonl, Detection(classes=["red"]), "test")
    with pytest.raises(
        DataError, match=r"id must be the integer id .*, got 'test-0'\. .* data\.columns\.id="
    ):
        submissions.check_submission(Submission.docvqa, vqa)
    with pytest.raises(DataError, match="contains objects, but task vqa predicts text"):
        submissions.check_submission(Submission.coco_detection, vqa)
    with pytest.raises(DataError, match="contains text, but task detection predicts objects"):
        submissions.check_submission(Submission.vqav2, boxes)
    with pytest.raises(DataError, match=r"data=jsonl has none\. Use data=coco"):
        submissions.check_submission(Submission.coco_detection, boxes)
    with pytest.raises(DataError, match="needs exactly one dataset, got 2"):
        submissions.check_submission(Submission.vqav2, vqa + boxes)


def test_an_incomplete_submission_logs_a_warning(
    tmp_path: Path, perfect: Perfect, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = questions(tmp_path)
    write_entries(tmp_path, Submission.vqav2, dataset, perfect(dataset)[:2])
    assert "contains 2 of 4 examples, but test servers require all of them" in caplog.text
