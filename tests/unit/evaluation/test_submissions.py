"""Files for test servers have the form that these ask for, and the data's own ids."""

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
from palitune.evaluation.prediction_records import PredictionRecord
from palitune.evaluation.scoring import score_predictions
from palitune.records import mask_from_json
from palitune.tasks.caption import Caption
from palitune.tasks.detection import Detection
from palitune.tasks.referring_detection import ReferringDetection
from palitune.tasks.segmentation import Segmentation
from palitune.tasks.vqa import Vqa

from support.toy_data import SIZE, draw_toy_image, toy_mask

Written = list[dict[str, Any]]
Right = Callable[[TaskDataset], list[PredictionRecord]]
QUESTIONS = {
    Submission.docvqa: "questionId",
    Submission.infovqa: "questionId",
    Submission.stvqa: "question_id",
    Submission.vqav2: "question_id",
    Submission.textvqa: "question_id",
}


def questions(folder: Path) -> TaskDataset:
    """Four questions with ids as benchmarks have them."""
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


def written(
    folder: Path, kind: Submission, part: TaskDataset, answers: list[PredictionRecord]
) -> Written:
    submissions.check_submission(kind, [part])
    file = submissions.write_submission(folder, kind, part, answers)
    assert file == folder / "submission.json"
    entries: Written = json.loads(file.read_text())
    return entries


@pytest.mark.parametrize("kind", QUESTIONS)
def test_answers_go_under_whole_numbers(kind: Submission, tmp_path: Path, right: Right) -> None:
    part = questions(tmp_path)
    answers = [*right(part)[:3], PredictionRecord(text="<loc", value=None)]
    assert written(tmp_path, kind, part, answers) == [
        {QUESTIONS[kind]: 262148000, "answer": "0"},
        {QUESTIONS[kind]: 262148001, "answer": "1"},
        {QUESTIONS[kind]: 262148002, "answer": "2"},
        {QUESTIONS[kind]: 262148003, "answer": ""},
    ]


def test_vizwiz_names_images(tmp_path: Path, right: Right) -> None:
    part = questions(tmp_path)
    entries = written(tmp_path, Submission.vizwiz, part, right(part))
    assert entries[1] == {"image": "test_01.png", "answer": "1"}
    back = prediction_files.load_predictions(
        tmp_path / "submission.json", [part], EvaluationConfig()
    )
    assert [answer.value for answer in back[0]] == ["0", "1", "2", "3"]


def test_captions_load_as_coco_results(coco: Coco, tmp_path: Path, right: Right) -> None:
    source = Coco(path=coco.path, annotations=CocoAnnotationKind.captions)
    part = load_split(source, Caption(metrics=["cider_d"]), "test")[0]
    entries = written(tmp_path, Submission.coco_captions, part, right(part))
    assert [set(entry) for entry in entries] == [{"image_id", "caption"}] * 4
    official = COCO(str(source.annotation_file("test")))
    loaded = official.loadRes(str(tmp_path / "submission.json"))
    assert sorted(loaded.getImgIds()) == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [Submission.coco_detection, Submission.coco_segmentation])
def test_objects_load_as_coco_results_and_read_back_as_they_were(
    kind: Submission, coco: Coco, tmp_path: Path, right: Right
) -> None:
    masks = kind is Submission.coco_segmentation
    task = Detection()
    if masks:
        file = coco.annotation_file("test")
        content = json.loads(file.read_text())
        for entry in content["annotations"]:
            x, y, width, height = entry["bbox"]
            outline = toy_mask(SIZE, (x, y, x + width, y + height))
            entry["segmentation"] = uncompressed(outline)
        file.write_text(json.dumps(content))
        task = Segmentation()
    part = load_split(Coco(path=coco.path, masks=masks), task, "test")[0]
    answers = right(part)
    entries = written(tmp_path, kind, part, answers)
    shape = "segmentation" if masks else "bbox"
    assert {key for entry in entries for key in entry} == {
        "image_id", "category_id", shape, "score",
    }  # fmt: skip
    assert {entry["score"] for entry in entries} == {0.5}
    official = COCO(str(coco.annotation_file("test")))
    loaded = official.loadRes(str(tmp_path / "submission.json"))
    assert len(loaded.getAnnIds()) == len(entries) == sum(len(a.value or ()) for a in answers)
    back = prediction_files.load_predictions(
        tmp_path / "submission.json", [part], EvaluationConfig()
    )
    numbers = [
        score_predictions([part], [found], EvaluationConfig()).metrics for found in (answers, *back)
    ]
    assert numbers[0] == pytest.approx(numbers[1], nan_ok=True)
    if masks:
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


def test_expressions_go_under_their_two_numbers(tmp_path: Path, right: Right) -> None:
    boat = {"label": "boat", "box": [10, 10, 50, 40]}
    row = {
        "image": draw_toy_image(tmp_path, "test", 0),
        "expression": "the boat",
        "instances": [boat],
    }
    (tmp_path / "test.jsonl").write_text(json.dumps({"id": "17-4203"} | row) + "\n")
    part = load_split(Jsonl(path=str(tmp_path)), ReferringDetection(), "test")[0]
    answers = right(part)
    [entry] = written(tmp_path, Submission.refcoco, part, answers)
    assert (entry["ref_id"], entry["sent_id"]) == (17, 4203)
    assert entry["bbox"] == pytest.approx([10, 10, 40, 30], abs=0.1)
    [[back]] = prediction_files.load_predictions(
        tmp_path / "submission.json", [part], EvaluationConfig()
    )
    assert back.value[0].box == pytest.approx(answers[0].value[0].box)  # type: ignore[index,union-attr]


def test_what_a_server_would_refuse_is_told_before_anything_is_done(
    tmp_path: Path, jsonl: Jsonl, coco: Coco
) -> None:
    asked = load_split(jsonl, Vqa(), "test")
    boxes = load_split(jsonl, Detection(classes=["red"]), "test")
    with pytest.raises(DataError, match=r"'test-0' has to be the number .* data\.columns\.id="):
        submissions.check_submission(Submission.docvqa, asked)
    with pytest.raises(DataError, match="a file of objects, and the answers of task vqa are texts"):
        submissions.check_submission(Submission.coco_detection, asked)
    with pytest.raises(DataError, match="a file of texts, and the answers of task detection"):
        submissions.check_submission(Submission.vqav2, boxes)
    with pytest.raises(DataError, match="data=jsonl has none; it takes data=coco"):
        submissions.check_submission(Submission.coco_detection, boxes)
    with pytest.raises(DataError, match="is of one data set, and there are 2"):
        submissions.check_submission(Submission.vqav2, asked + boxes)


def test_a_file_of_some_examples_says_so(
    tmp_path: Path, right: Right, caplog: pytest.LogCaptureFixture
) -> None:
    part = questions(tmp_path)
    written(tmp_path, Submission.vqav2, part, right(part)[:2])
    assert "holds 2 of 4 examples, and a server wants them all" in caplog.text
