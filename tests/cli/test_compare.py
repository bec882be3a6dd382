"""A sweep of three tasks and two adapters by one command, and the comparison of it by another."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune import __main__ as program
from palitune.models.adapters.checkpoint import save_adapter
from palitune.models.adapters.config import Lora
from palitune.models.config import Tiny
from palitune.models.loading import load_for_training
from palitune.sweeps import launch_sweep

from support.browser import DESKTOP, PHONE, open_page
from support.comparison_runs import STRONG_ANSWERS, WEAK_ANSWERS, write_run

TASKS = {"ocr": "ocr", "vqa": "vqa", "boxes": "detection"}
EXPERIMENT = """\
# @package _global_
# Handwritten digits, {task}.
defaults: [override /data: handwriting, override /task: {task}, override /model: tiny]
data: {{annotations: {task}}}
task: {{max_new_tokens: 8}}
evaluation: {{max_samples: 10, batch_size: 10, num_workers: 0, bootstrap_samples: 100}}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an experiment per task and two adapters that differ from the base."""
    (tmp_path / "own/experiment").mkdir(parents=True)
    for name, task in TASKS.items():
        file = tmp_path / f"own/experiment/{name}.yaml"
        file.write_text(EXPERIMENT.format(task=task))
    for seed, name in enumerate(("small", "large"), start=1):
        torch.manual_seed(seed)
        network = load_for_training(Tiny(), Lora(rank=4 * seed))
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter += 0.05 * seed * torch.randn_like(parameter)
        save_adapter(network, tmp_path / name / "adapter", Tiny())
    monkeypatch.chdir(tmp_path)
    return tmp_path


class InThisProcess:
    """Runs the jobs of a sweep without importing everything anew."""

    def run(self, command: Sequence[str], again: Sequence[str], log: Path) -> tuple[int, str]:
        _, package, *arguments = command
        assert package == "palitune"
        return program.run(arguments), ""

    def terminate(self) -> None: ...


def test_a_sweep_of_tasks_and_adapters_is_compared_by_its_folder(
    home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_sweep, "make_runner", lambda settings, folder: InThisProcess())
    swept = ["experiment=ocr,vqa,boxes", "adapter.path=null,small/adapter,large/adapter"]
    told = ["evaluate", "--multirun", "--config-dir", "own", *swept, "output_dir=judged"]
    assert program.run(told) == 0, capfd.readouterr().err[-2000:]
    said = capfd.readouterr().out
    assert "sweep: 9 of 9 jobs done, in judged" in said
    assert said.splitlines()[-1] == "compare: palitune compare judged"
    jobs = json.loads(Path("judged/sweep.json").read_text())["jobs"]
    assert [job["folder"] for job in jobs][:3] == [
        "0_experiment=ocr,adapter.path=null",
        "1_experiment=ocr,adapter.path=small",
        "2_experiment=ocr,adapter.path=large",
    ]

    assert (
        program.run(["compare", "judged", "output_dir=side_by_side", "bootstrap_samples=100"]) == 0
    )
    said = capfd.readouterr().out
    for shown in ("base model", "adapter small", "f1@.5", "a limit was used", "comparison.html"):
        assert shown in said
    written = {file.name for file in Path("side_by_side").iterdir()}
    assert written == {"comparison.csv", "comparison.html", "comparison.md"}
    rows = list(csv.DictReader(Path("side_by_side/comparison.csv").read_text().splitlines()))
    assert [(row["part"], row["run"]) for row in rows] == [
        (part, run)
        for part in ("ocr", "vqa", "detection")
        for run in ("base model", "adapter small", "adapter large")
    ]
    for row, job in zip(rows, sorted(Path("judged").glob("*/metrics.json")), strict=True):
        after = json.loads(job.read_text())["after"]
        name = "f1@.5" if row["part"] == "detection" else "exact_match"
        assert float(row[name]) == after[f"{row['part']}/{name}"]
    check_predictions_beside_a_run(capfd)
    for window in (PHONE, DESKTOP):
        with open_page(Path("side_by_side/comparison.html"), window) as visit:
            assert (visit.errors, visit.overflow() <= 0) == ([], True)
            assert visit.page.locator("section h2").all_inner_texts() == [
                "ocr", "vqa", "detection", "Runs"
            ]  # fmt: skip


def check_predictions_beside_a_run(capfd: pytest.CaptureFixture[str]) -> None:
    """Compare runs with a perfect detector's COCO results, and with their own texts as lines."""
    boxes, reader = (next(Path("judged").glob(f"{number}_*")) for number in (7, 1))
    results = [
        {
            "image_id": Path(record["images"][0]).stem,
            "category": instance["label"],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "score": 0.5,
        }
        for record in records_of(boxes)
        for instance in record["reference"]
        for x0, y0, x1, y1 in [instance["box"]]
    ]
    Path("yolo.json").write_text(json.dumps(results))
    command = ["compare", str(boxes), "yolo.json", "output_dir=elsewhere", "bootstrap_samples=100"]
    own, yolo = compared(command)
    assert (own["run"], yolo["run"], yolo["baseline"]) == (boxes.name, "yolo", boxes.name)
    for name in ("f1@.5", "AP50", "AP"):
        assert float(yolo[name]) == pytest.approx(1)
        assert float(yolo[f"{name}_change"]) == pytest.approx(1 - float(own[name]))
    capfd.readouterr()
    assert program.run(command) == 2
    assert "output_dir elsewhere/yolo already holds a run of evaluate" in capfd.readouterr().err

    texts = [{"id": record["id"], "answer": record["text"]} for record in records_of(reader)]
    Path("vlm.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    own, vlm = compared(["compare", str(reader), "vlm.jsonl", "output_dir=elsewhere"])
    for name in ("exact_match", "character_error_rate", "malformed"):
        assert float(vlm[name]) == float(own[name])
        assert [float(vlm[f"{name}_change{end}"]) for end in ("", "_low", "_high")] == [0, 0, 0]


def records_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]


def compared(command: Sequence[str]) -> list[dict[str, str]]:
    assert program.run(command) == 0
    return list(csv.DictReader(Path("elsewhere/comparison.csv").read_text().splitlines()))


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.chdir(tmp_path)
    for name in ("answers.json", "answers.jsonl"):
        (tmp_path / name).write_text("[]")
    write_run(tmp_path / "0_adapter.rank=8", WEAK_ANSWERS, rank=8)
    write_run(tmp_path / "1_adapter.rank=16", STRONG_ANSWERS, rank=16)
    return "0_adapter.rank=8", "1_adapter.rank=16"


def test_runs_are_named_one_by_one_or_in_a_list(
    two: tuple[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["compare", *two, "baseline=1_adapter.rank=16"]) == 0
    bare = capfd.readouterr().out
    assert "outputs/compare/" in bare
    listed = f"runs=[{two[0]!r},{two[1]!r}]"
    assert program.run(["compare", listed, "baseline='adapter rank 16'"]) == 0
    assert capfd.readouterr().out.splitlines()[:-1] == bare.splitlines()[:-1]


MISTAKES = {
    "nothing": ([], 2, "palitune: runs are missing: give the folders of runs or of a sweep"),
    "a mistyped key": (["a", "basline=b"], 2, "palitune: there is no key 'basline' (did you mean"),
    "no such folder": (["nowhere"], 1, "palitune: nowhere does not exist"),
    "only predictions": (
        ["answers.jsonl"],
        2,
        "palitune: runs must have the folder of a run whose data answers.jsonl is scored on. Add",
    ),
    "predictions of one name": (
        ["0_adapter.rank=8", "answers.jsonl", "answers.json"],
        2,
        "palitune: files of predictions must have different names, got answers twice. Rename one",
    ),
    "one run": (
        ["0_adapter.rank=8"],
        1,
        "palitune: 0_adapter.rank=8: a comparison needs at least two runs",
    ),
    "no such baseline": (["."], 1, "palitune: baseline=x: no run has that folder or label"),
}


@pytest.mark.parametrize(("told", "code", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(
    told: list[str],
    code: int,
    said: str,
    two: tuple[str, str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert program.run(["compare", *told, *(["baseline=x"] if told == ["."] else [])]) == code
    err = capfd.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert not Path("outputs").exists()
