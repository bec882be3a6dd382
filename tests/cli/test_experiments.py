"""Experiments on the embedded data run from end to end by command line, a few steps of them."""

import json
from pathlib import Path

import pytest

from palitune import __main__ as program
from palitune.records import value_from_json

BRIEF = [
    "training.max_steps=3",
    "training.global_batch_size=4",
    "training.micro_batch_size=2",
    "training.save_every=3",
    "training.log_every=1",
    "evaluation.max_samples=3",
    "evaluation.num_workers=0",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a brief run with masks, whose images are augmented."""
    folder = tmp_path_factory.mktemp("experiment") / "run"
    told = ["finetune", "experiment=handwriting_segmentation", "augmentation=light", *BRIEF]
    assert program.run([*told, f"output_dir={folder}"]) == 0
    return folder


def test_masks_of_handwriting_are_learned_and_judged(run: Path) -> None:
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert len(losses) == 3
    assert all(0 < loss < 20 for loss in losses)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["examples"] == {"segmentation": 3}
    for when in ("before", "after"):
        assert 0 <= metrics[when]["segmentation/mask_iou"] <= 1


def test_every_reference_of_handwriting_has_its_mask(run: Path) -> None:
    for line in (run / "predictions.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["prefix"].startswith("segment ")
        reference = value_from_json(record["reference"])
        assert reference
        assert all(instance.mask.any() for instance in reference)


def test_a_domain_is_learned_from_some_shots_and_judged_beside_the_other(tmp_path: Path) -> None:
    few = ["data.parts.target.shots=5", "data.parts.source.weight=0", "training.self_check=false"]
    told = ["finetune", "experiment=domain_adaptation", "training.num_workers=0", *few, *BRIEF]
    assert program.run([*told, f"output_dir={tmp_path / 'run'}"]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["examples"] == {"target": 3, "source": 3}
    assert {"target/exact_match", "source/exact_match"} <= set(metrics["before"])
    data = json.loads((tmp_path / "run/environment.json").read_text())["data"]
    assert (set(data["train"]), set(data["test"])) == ({"target"}, {"target", "source"})


def test_the_adapter_covers_the_head_that_writes_the_masks(run: Path) -> None:
    config = json.loads((run / "adapter/adapter_config.json").read_text())
    assert "lm_head" in config["target_modules"]
    assert (run / "adapter/adapter_model.safetensors").stat().st_size < 2_000_000
