"""From training to thresholds in use and suspected label errors, by command line."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from palitune import __main__ as program
from palitune.data.sources.embedded import Print

TRAIN = [
    *("finetune", "data=print", "task=detection", "task.prompt_classes=present", "model=tiny"),
    *(
        "task.max_new_tokens=20",
        "adapter.rank=2",
        "training.max_steps=1",
        "training.global_batch_size=2",
    ),
    *("training.micro_batch_size=2", "training.num_workers=0", "training.self_check=false"),
    *("training.validation_split=validation", "evaluate_before=false", "evaluation.num_workers=0"),
    *("evaluation.max_samples=4", "training.eval_max_samples=6", "output_dir=run"),
]
PREDICT = ["predict", "images=photos", "adapter.path=run", "evaluation.num_workers=0"]
PREDICT += ["evaluation.constrained_decoding=true"]
PROMPT = "prompt=detect " + " ; ".join(map(str, range(10)))


def complaint(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    capfd.readouterr()
    assert program.run([*arguments]) != 0
    return " ".join(capfd.readouterr().err.split())


def test_thresholds_of_the_validation_split_are_stored_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert program.run(TRAIN) == 0
    assert "thresholds of detection on validation, stored in run" in capfd.readouterr().out
    stored = json.loads(Path("run/adapter/thresholds.json").read_text())
    assert (stored["split"], stored["examples"]) == ("validation", {"detection": 6})
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert set(metrics["error_types"]["after"]["detection"]["types"]) >= {"background", "missed"}

    photos = Path("photos")
    photos.mkdir()
    for number in range(1, 3):
        shutil.copy(Print().resolved_path() / "images" / f"test-{number:04d}.png", photos)
    overall = stored["parts"]["detection"]["overall"]["threshold"]
    limits = {
        name: point["threshold"]
        for name, point in stored["parts"]["detection"]["classes"].items()
        if point["threshold"] is not None
    }
    assert program.run([*PREDICT, PROMPT, "output_dir=all"]) == 0
    assert program.run([*PREDICT, PROMPT, "min_score=auto", "output_dir=kept"]) == 0
    for before, after in zip(
        Path("all/predictions.jsonl").read_text().splitlines(),
        Path("kept/predictions.jsonl").read_text().splitlines(),
        strict=True,
    ):
        objects = json.loads(before)["value"]
        assert json.loads(after)["value"] == [
            item for item in objects if item["score"] >= limits.get(item["label"], overall)
        ]

    Path("run/adapter/thresholds.json").unlink()
    assert "has no thresholds.json. Set min_score to a number" in complaint(
        capfd, *PREDICT, PROMPT, "min_score=auto", "output_dir=no", "overwrite=true"
    )
    again = ["evaluate", "--run", "run", "evaluation.split=validation", "store_thresholds=true"]
    assert program.run([*again, "evaluation.max_samples=6", "output_dir=judged"]) == 0
    assert json.loads(Path("run/adapter/thresholds.json").read_text()) == stored
    assert "store_thresholds needs an adapter" in complaint(
        capfd, "evaluate", "data=print", "task=detection", "model=tiny", "store_thresholds=true"
    )

    assert program.run(["inspect", "--run", "run", "splits=[validation]", "output_dir=seen"]) == 0
    assert "suspected label errors: " in capfd.readouterr().out
    with Path("seen/label_errors.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    suspicions = [float(row["suspicion"]) for row in rows]
    assert suspicions == sorted(suspicions, reverse=True)
    assert {row["kind"] for row in rows} <= {"missing", "elsewhere", "class"}
    assert "predictions.html" not in {path.name for path in Path("seen").iterdir()}
    assert Path("seen/label_errors.html").is_file()

    Path("run/predictions.jsonl").unlink()
    common = ["inspect", "data=print", "task=detection", "model=tiny", "splits=[validation]"]
    assert "run has no predictions.jsonl. Set it to the folder" in complaint(
        capfd, *common, "predictions=run", "output_dir=none"
    )


def test_a_run_of_texts_has_no_suspected_label_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["evaluation.max_samples=2", "evaluation.num_workers=0", "task.max_new_tokens=2"]
    read = ["evaluate", "data=print", "task=ocr", "model=tiny", *few, "output_dir=read"]
    assert program.run(read) == 0
    capfd.readouterr()
    assert program.run(["inspect", "--run", "read", "splits=[validation]", "output_dir=a"]) == 0
    logged = " ".join(capfd.readouterr().out.split())
    sentence = "must hold boxes or masks with their references to search for label errors"
    assert sentence in logged
    assert sentence in complaint(
        capfd, *("inspect", "data=print", "task=ocr", "model=tiny", "splits=[validation]"),
        *("predictions=read", "output_dir=b"),
    )  # fmt: skip
    assert "suspected" not in " ".join(path.name for path in Path("b").iterdir())
