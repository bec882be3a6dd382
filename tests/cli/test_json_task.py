"""Documents to JSON from the command line: training, constrained evaluation, prediction."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from palitune import __main__ as program

SETTINGS = ["task=json", "data=jsonl", "model=tiny", "evaluation.num_workers=0"]


@pytest.fixture(scope="module")
def receipts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Donut's layout: `{split}/metadata.jsonl` beside the images."""
    folder = tmp_path_factory.mktemp("receipts")
    for split, count in {"train": 4, "test": 2}.items():
        (folder / split).mkdir()
        lines = []
        for number in range(count):
            image = Image.new("L", (96, 96), 255)
            ImageDraw.Draw(image).text((8, 8), f"TOTAL {number}.5", fill=0)
            image.save(folder / split / f"{number}.png")
            parse = {"total": number + 0.5, "menu": [{"nm": "Tea"}]}
            truth = json.dumps({"gt_parse": parse})
            lines.append(json.dumps({"file_name": f"{number}.png", "ground_truth": truth}) + "\n")
        (folder / split / "metadata.jsonl").write_text("".join(lines))
    return folder


def test_fields_are_inferred_saved_scored_and_predicted(
    receipts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, again, new = tmp_path / "run", tmp_path / "again", tmp_path / "new"
    arguments = [*SETTINGS, f"data.path={receipts}", "evaluation.split=test"]
    short = ["training.max_steps=2", "training.num_workers=0", "training.micro_batch_size=2"]
    short += ["training.global_batch_size=2", "task.max_new_tokens=60", "evaluate_before=false"]
    assert program.run(["finetune", *arguments, *short, f"output_dir={run}"]) == 0
    assert (
        "  fields:\n    total: number\n    menu:\n    - nm: text\n"
        in (run / "config.yaml").read_text()
    )

    arguments += [f"adapter.path={run}/adapter", "evaluation.constrained_decoding=true"]
    arguments += ["task.max_new_tokens=60", f"output_dir={again}"]
    assert program.run(["evaluate", *arguments]) == 0
    written = json.loads((again / "metrics.json").read_text())
    assert set(written["slices"]["after"]["json"]["field"]) >= {"total", "menu.nm"}
    metrics = written["after"]
    assert metrics["json/json_malformed"] == 0
    assert {"json/json_fields_f1", "json/json_tree", "json/exact_match"} <= set(metrics)
    records = [json.loads(line) for line in (again / "predictions.jsonl").open()]
    for record in records:
        value = json.loads(record["text"])
        assert set(value) <= {"total", "menu"}
        assert all(0 <= each <= 1 for each in record.get("field_confidences", {}).values())

    page = (again / "report.html").read_text(encoding="utf-8")
    assert "menu.nm" in page
    assert not any(record.get("field_confidences") for record in records) or (
        "confidence of fields" in page
    )

    images = [f"images={receipts / 'test'}/*.png", f"output_dir={new}"]
    images += [f"adapter.path={run}/adapter", "evaluation.constrained_decoding=true"]
    assert program.run(["predict", *images]) == 0  # task and fields are those of the training
    predicted = [json.loads(line) for line in (new / "predictions.jsonl").open()]
    assert len(predicted) == 2
    assert all(isinstance(json.loads(record["value"]), dict) for record in predicted)
    if any(json.loads(record["value"]) for record in predicted):
        with (new / "predictions.csv").open(newline="") as file:
            assert [row["id"] for row in csv.DictReader(file)] == [r["id"] for r in predicted]

    capsys.readouterr()
    assert program.run(["evaluate", *arguments, "task.fields={total: text}"]) != 0
    message = capsys.readouterr().err
    assert "task.fields must be those that" in message
    assert "Remove task.fields, or train an adapter with the new ones." in message


def test_a_column_that_is_no_json_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "train.jsonl").write_text('{"image": "a.png", "json": "total: 5"}\n')
    arguments = [*SETTINGS, f"data.path={tmp_path}", "evaluation.split=train"]
    assert program.run(["evaluate", *arguments, "task.fields={total: number}"]) != 0
    assert "train.jsonl:1: column 'json' must be an object with task.fields" in (
        capsys.readouterr().err
    )
