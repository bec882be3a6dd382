"""Whole runs on a GPU: training, resumption, several processes, evaluation and export."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from palitune.__main__ import run
from palitune.training.state.resume import WEIGHTS_FILE

pytestmark = pytest.mark.cuda

DEVICE = "model.device=cuda"
TRAINING = [
    "finetune", "task=ocr", "data=handwriting", "model=tiny", DEVICE, "evaluate_before=false",
    "training.max_steps=6", "training.save_every=3", "training.log_every=1",
    "training.num_workers=1", "evaluation.max_samples=8", "evaluation.num_workers=0",
]  # fmt: skip


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in history(folder) if "loss" in entry]


@pytest.mark.parametrize(
    "overrides",
    [
        ["adapter=lora"],
        ["adapter=lora", "training.gradient_checkpointing=true"],
        ["adapter=lora", "training.activation_offloading=true"],
        ["adapter=qlora", "training.optimizer=paged_adamw_8bit"],
        ["adapter=qlora", "adapter.bits=8"],
        ["adapter=full", "training.learning_rate=1e-5"],
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_a_training_passes_the_self_check_resumes_and_is_evaluated(
    overrides: list[str], tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert run([*TRAINING, *overrides, f"output_dir={whole}"]) == 0
    assert json.loads((whole / "environment.json").read_text())["machine"]["gpus"]
    assert len(losses(whole)) == 6
    assert all(0 < loss < 20 for loss in losses(whole))
    checkpoint = whole / "checkpoints" / "checkpoint-3"
    again = [*TRAINING, *overrides, f"output_dir={resumed}", f"training.resume={checkpoint}"]
    assert run(again) == 0
    # Sums on a GPU have no fixed order, so that the last bits differ between runs.
    assert losses(resumed) == pytest.approx(losses(whole)[3:], rel=0.02)

    evaluated = ["evaluate", "task=ocr", "data=handwriting", "model=tiny", DEVICE, overrides[0]]
    folder = tmp_path / "evaluated"
    limits = ["evaluation.max_samples=8", "evaluation.num_workers=0"]
    adapter = [f"adapter.path={whole / 'adapter'}", f"output_dir={folder}"]
    assert run([*evaluated, *limits, *adapter]) == 0
    assert (folder / "metrics.json").is_file()


def test_a_training_in_fp16_scales_its_loss(tmp_path: Path) -> None:
    fp16 = ["model.dtype=fp16", "adapter=lora", "training.max_steps=6", f"output_dir={tmp_path}"]
    assert run([*TRAINING, *fp16]) == 0
    in_fp16 = losses(tmp_path)
    fp32 = ["model.dtype=fp32", "adapter=lora", f"output_dir={tmp_path / 'fp32'}"]
    assert run([*TRAINING, *fp32]) == 0
    assert in_fp16[0] == pytest.approx(losses(tmp_path / "fp32")[0], rel=0.01)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_several_processes_learn_what_one_learns(strategy: str, tmp_path: Path) -> None:
    processes = min(2, torch.cuda.device_count())
    one, several = tmp_path / "one", tmp_path / "several"
    assert run([*TRAINING, "adapter=lora", f"output_dir={one}"]) == 0
    launch = [f"launch={strategy}", f"launch.nproc_per_node={processes}"]
    assert run([*TRAINING, *launch, "adapter=lora", f"output_dir={several}"]) == 0
    assert losses(several) == pytest.approx(losses(one), rel=0.02)
    checkpoints = (folder / "checkpoints" / "checkpoint-6" for folder in (one, several))
    first, second = (load_file(checkpoint / WEIGHTS_FILE) for checkpoint in checkpoints)
    assert first.keys() == second.keys()


def test_an_export_has_the_answers_of_its_adapter(tmp_path: Path) -> None:
    assert run([*TRAINING, "adapter=lora", f"output_dir={tmp_path / 'run'}"]) == 0
    exported = tmp_path / "exported"
    adapter = [f"adapter.path={tmp_path / 'run' / 'adapter'}", f"output_dir={exported}"]
    assert run(["export", "model=tiny", DEVICE, *adapter]) == 0
    assert any(exported.rglob("model*.safetensors"))
