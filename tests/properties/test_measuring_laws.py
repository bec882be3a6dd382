"""Validation during training: training ends with the best weights, also after a resume."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.loading import load
from palitune.records import Example
from palitune.training.config import Schedule, TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.train import train as train_network

Weights = dict[str, torch.Tensor]


@dataclass
class TrainingRun:
    """A trained network, and its weights at each validation."""

    network: Any
    folder: Path
    validated_weights: list[Weights] = field(default_factory=list)

    @property
    def weights(self) -> Weights:
        named = self.network.named_parameters()
        return {name: p.detach().clone() for name, p in named if p.requires_grad}

    @property
    def remarks(self) -> list[str]:
        remarks: list[str] = json.loads((self.folder / "training.json").read_text())["remarks"]
        return remarks

    def logged(self, name: str) -> dict[int, float]:
        lines = (self.folder / "history.jsonl").read_text().splitlines()
        return {e["step"]: e[name] for e in map(json.loads, lines) if name in e}


def training_config(**changes: Any) -> TrainingConfig:
    base: dict[str, Any] = {
        "global_batch_size": 2, "micro_batch_size": 2, "learning_rate": 1e-2, "warmup_ratio": 0.0,
        "schedule": Schedule.constant, "log_every": 1, "num_workers": 0,
        "target_sampling": TargetSampling.first,
        "validation_split": "validation", "eval_every": 2, "best_metric": "ocr/exact_match",
    }  # fmt: skip
    return TrainingConfig(**(base | changes))


def train(
    base: Path,
    examples: Sequence[Example],
    folder: Path,
    settings: TrainingConfig,
    scores: Iterator[float],
    *,
    slices: Any = None,
) -> TrainingRun:
    torch.manual_seed(7)
    folder.mkdir(exist_ok=True)
    network = Lora(rank=4).apply_to(load(Local(path=str(base))))
    run = TrainingRun(network, folder)

    def validate() -> dict[str, float]:
        run.validated_weights.append(run.weights)
        return {str(settings.best_metric): next(scores)}

    training_set = TrainingSet(examples, settings.target_sampling, 0)
    collator = Collator(AutoProcessor.from_pretrained(base))
    data = TrainingData(training_set, collator, (slices or {}).get("minitrain", ()))
    validation = (slices or {}).get("minival")
    train_network(network, data, settings, folder, validation=validation, eval_fn=validate)
    return run


def are_equal(first: Weights, second: Weights) -> bool:
    return all(torch.equal(first[name], value) for name, value in second.items())


@pytest.mark.parametrize(
    ("metric", "scores", "best"),
    [
        ("ocr/exact_match", [0.3, 0.9, 0.1], 1),
        ("ocr/exact_match", [0.5, 0.5, 0.2], 0),
        ("ocr/character_error_rate", [0.3, 0.9, 0.1], 2),
        ("ocr/character_error_rate", [float("nan"), 0.4, 0.8], 1),
    ],
)
@pytest.mark.parametrize("save_every", [None, 3, 5])
def test_training_ends_with_the_weights_of_its_best_validation(
    metric: str,
    scores: list[float],
    best: int,
    save_every: int | None,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    settings = training_config(
        max_steps=6, best_metric=metric, save_every=save_every, keep_checkpoints=1
    )
    run = train(tiny("paligemma"), examples, tmp_path, settings, iter(scores))
    assert are_equal(run.weights, run.validated_weights[best])
    assert not any(
        are_equal(run.weights, weights)
        for index, weights in enumerate(run.validated_weights)
        if index != best
    )
    step = 2 * (best + 1)
    assert run.remarks[0].startswith(f"the adapter is that of step {step}, the best of 3")
    saved = load_file(tmp_path / f"checkpoints/checkpoint-{step}/weights.safetensors")
    assert saved.keys() == run.weights.keys()
    assert are_equal(saved, run.weights)


def test_a_fractional_eval_every_validates_at_its_multiples(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    settings = training_config(max_steps=8, eval_every=0.25)
    run = train(tiny("paligemma"), examples, tmp_path, settings, iter([0.1, 0.2, 0.3, 0.4]))
    assert list(run.logged("validation/ocr/exact_match")) == [2, 4, 6, 8]


def test_early_stopping_ends_training_without_improvement(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    settings = training_config(max_steps=20, early_stopping_patience=2)
    run = train(tiny("paligemma"), examples, tmp_path, settings, iter([0.1, 0.9, 0.9, 0.2]))
    assert max(run.logged("loss")) == 8
    assert are_equal(run.weights, run.validated_weights[1])
    assert run.remarks[1].startswith("training stopped early at step 8 of 20: 2 validations")


def test_early_stopping_counts_epochs_by_default(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    settings = training_config(
        epochs=9, global_batch_size=2, eval_every=None, early_stopping_patience=1
    )
    run = train(tiny("paligemma"), examples, tmp_path, settings, iter([0.5, 0.1]))
    assert max(run.logged("loss")) == 6  # five examples are three steps
    assert are_equal(run.weights, run.validated_weights[0])


def test_a_resumed_run_keeps_its_best_metric_and_patience(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    """A run that is interrupted at step 6, moved and resumed stops where the full run does."""
    scores = [0.1, 0.9, 0.2, 0.3, 0.4]
    base = tiny("paligemma")
    full = train(
        base,
        examples,
        tmp_path / "full",
        training_config(max_steps=20, early_stopping_patience=3),
        iter(scores),
    )
    train(
        base,
        examples,
        tmp_path / "first",
        training_config(max_steps=6, early_stopping_patience=3),
        iter(scores),
    )
    (tmp_path / "first").rename(tmp_path / "moved")
    settings = training_config(max_steps=20, early_stopping_patience=3, resume="auto")
    resumed = train(base, examples, tmp_path / "moved", settings, iter(scores[3:]))
    assert max(resumed.logged("loss")) == max(full.logged("loss")) == 10
    assert len(resumed.validated_weights) == 2
    assert are_equal(resumed.weights, full.weights)
    assert resumed.remarks == full.remarks

    finished = train(base, examples, tmp_path / "moved", settings, iter([]))
    assert are_equal(finished.weights, full.weights)
    assert finished.remarks == full.remarks
    assert finished.logged("loss") == resumed.logged("loss")


def test_loss_and_perplexity_of_slices_are_logged_and_can_be_the_best_metric(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    settings = training_config(
        max_steps=6, best_metric="minival/loss", eval_loss_every=1, early_stopping_patience=9
    )
    slices = {
        "minitrain": [SimpleNamespace(name="ocr", examples=examples[:2])],
        "minival": [SimpleNamespace(name="ocr", examples=examples[2:])],
    }
    without_slices = training_config(max_steps=6)
    run = train(
        tiny("paligemma"), examples[:2], tmp_path / "a", settings, iter([0.0] * 3), slices=slices
    )
    for slice_name in slices:
        assert list(run.logged(f"{slice_name}/loss")) == [0, 1, 2, 3, 4, 5, 6]
        assert list(run.logged(f"{slice_name}/ocr/perplexity")) == [0, 1, 2, 3, 4, 5, 6]
    losses = run.logged("minitrain/loss")
    assert losses[6] < losses[0]
    validated = {step: run.logged("minival/loss")[step] for step in (2, 4, 6)}
    best = min(validated, key=validated.__getitem__)
    assert run.remarks[0].startswith(f"the adapter is that of step {best}, the best of 3")

    plain = train(tiny("paligemma"), examples[:2], tmp_path / "b", without_slices, iter([0.0] * 3))
    assert run.logged("loss") == plain.logged("loss")
