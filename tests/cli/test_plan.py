"""`palitune plan` takes the command line of a training and reads no weights."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palitune import __main__ as program
from palitune.planning.measurements import MeasuredStep

from support.toy_data import write_toy_jsonl

CHECKPOINTED = "training.gradient_checkpointing=true"


def planned(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    return content


def test_a_training_that_has_no_data_yet_is_planned_with_all_released_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = ["experiment=docvqa", "model.size=10b", "adapter=qlora", "examples=1000"]
    assert program.run(["plan", *told, "output_dir=out"]) == 0
    said = " ".join(capfd.readouterr().out.split())
    for part in (
        "are predicted; none was measured",
        "does not exist",
        "Run: 40 steps",
        "The run fits",
    ):
        assert part in said
    plan = planned(tmp_path / "out")
    assert plan["run"]["peak"] == sum(plan["run"]["parts"].values())
    assert {(one["model"], one["resolution"]) for one in plan["released"]} == {
        (name, side)
        for name in ("paligemma 3b", "paligemma2 3b", "paligemma2 10b", "paligemma2 28b")
        for side in (224, 448, 896)
    }
    own = [one for one in plan["released"] if one["model"] == "paligemma2 10b"][1]
    assert (own["peak"], own["overrides"]) == (plan["run"]["peak"], "adapter=qlora")


def test_measured_steps_of_the_planned_card_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    step = MeasuredStep("NVIDIA H200", "paligemma2 3b 224 px, lora, 8 rows", 80.0, 12.5, 1.5)
    monkeypatch.setattr("palitune.planning.plan.measurements_of", {"H200": [step]}.get)
    settings = ["data=coco", "task=detection", "gpu=H200", "released=false", "output_dir=out"]
    assert program.run(["plan", *settings]) == 0
    printed = " ".join(capfd.readouterr().out.split())
    for part in ("are predicted; measured steps follow", "Measured on NVIDIA H200", "1.50x"):
        assert part in printed
    assert planned(tmp_path / "out")["measurements"][0]["peak_gib"] == 12.5


def test_data_need_not_even_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = ["data=coco", "task=detection", "gpu_memory=10", "suffix_tokens=200", "prefix_tokens=9"]
    told += ["training.micro_batch_size=4"]
    assert program.run(["plan", *told, "released=false", "output_dir=out"]) == 0
    assert "does not fit in 10 GiB" in " ".join(capfd.readouterr().out.split())
    assert planned(tmp_path / "out")["rows"]["tokens"] == 256 + 209


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("paligemma", ["adapter=qlora"]),
        ("paligemma2", ["adapter=lora", CHECKPOINTED]),
    ],
)
def test_a_real_step_takes_what_was_predicted(
    family: str, words: list[str], tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """In a process of its own: what others freed before would not be seen to be taken again."""
    write_toy_jsonl(tmp_path / "toys")
    told = ["task=ocr", "data=jsonl", "data.path=toys", "model=local", "output_dir=out"]
    told += [
        f"model.path={tiny(family)}",
        "training.global_batch_size=64",
        "training.micro_batch_size=64",
    ]
    told += [*words, "calibrate=true", "released=false"]
    subprocess.run(
        [sys.executable, "-m", "palitune", "plan", *told], cwd=tmp_path, check=True, timeout=120
    )
    plan = planned(tmp_path / "out")
    assert plan["rows"]["examples"] == 12
    assert abs(plan["calibration"]["error"]) < 0.1
    weights = plan["calibration"]["predicted"]["weights"]
    assert weights == pytest.approx(plan["calibration"]["measured"]["weights"], rel=0.01)


@pytest.mark.parametrize("wrong", ["mfu=2", "gpu_memory=0", "examples=0"])
def test_an_impossible_setting_ends_in_one_sentence(
    wrong: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["plan", wrong]) == 2
    assert wrong.split("=")[0] in capfd.readouterr().err
