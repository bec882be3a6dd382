"""A user's own data, made here, goes from its files to an evaluated adapter by command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.toy_data import write_toy_coco, write_toy_jsonl

SHORT = [
    "training.max_steps=2",
    "training.global_batch_size=4",
    "training.micro_batch_size=2",
    "training.num_workers=0",
    "evaluation.num_workers=0",
]


def palitune(sources: Path, folder: Path, *arguments: str) -> str:
    """Run the installed program in a folder, as a user does; its output."""
    done = subprocess.run(
        [sys.executable, "-m", "palitune", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(sources)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def numbers(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())["after"]
    return found


def test_a_coco_folder_is_trained_on_and_evaluated_from_an_installed_wheel(
    installed: Path, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    write_toy_coco(tmp_path / "boxes")
    model = ["model=local", f"model.path={tiny('paligemma2')}"]
    data = ["task=detection", "data=coco", "data.path=boxes", "task.max_new_tokens=16"]
    said = palitune(
        installed, tmp_path, "finetune", *data, *model, "adapter=qlora",
        "training.validation_split=validation", "training.best_metric=detection/f1@.5",
        "output_dir=run", *SHORT,
    )  # fmt: skip
    run = tmp_path / "run"
    written = {path.name for path in run.iterdir()}
    assert written == {
        "adapter", "checkpoints", "config.yaml", "environment.json", "history.jsonl",
        "metrics.csv", "metrics.json", "predictions.jsonl", "predictions_before.jsonl",
        "report.html", "results.png", "training.json",
    }  # fmt: skip
    assert "report.html" in said
    assert "mask: suffix tokens attend neither to later ones" in " ".join(said.split())

    again = [*data, *model, "adapter.path=run/adapter", "evaluation.num_workers=0"]
    palitune(installed, tmp_path, "evaluate", *again, "output_dir=judged")
    assert numbers(tmp_path / "judged") == numbers(run)
    assert (tmp_path / "judged/predictions.jsonl").read_text() == (
        run / "predictions.jsonl"
    ).read_text()


def test_a_jsonl_file_is_trained_on_and_evaluated_from_an_installed_wheel(
    installed: Path, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    write_toy_jsonl(tmp_path / "questions")
    model = ["model=local", f"model.path={tiny('paligemma')}"]
    data = ["task=vqa", "data=jsonl", "data.path=questions", "task.max_new_tokens=4"]
    palitune(installed, tmp_path, "finetune", *data, *model, "output_dir=run", *SHORT)
    record = json.loads((tmp_path / "run/predictions.jsonl").read_text().splitlines()[0])
    assert record["prefix"] == "answer en how many rectangles are there?"
    assert set(record["scores"]) == {"exact_match", "anls_rrc"}

    base = [*data, *model, "evaluation.num_workers=0", "output_dir=base"]
    palitune(installed, tmp_path, "evaluate", *base)
    before = json.loads((tmp_path / "run/metrics.json").read_text())["before"]
    assert numbers(tmp_path / "base") == before
