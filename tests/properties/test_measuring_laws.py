"""Measuring on the way: the best is what a training ends with, however it ends or goes on."""

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
from palitune.training.train import train

Weights = dict[str, torch.Tensor]


@dataclass
class Trained:
    """A network that has been trained with made-up scores, and its weights at each of them."""

    network: Any
    folder: Path
    measured: list[Weights] = field(default_factory=list)

    @property
    def weights(self) -> Weights:
        named = self.network.named_parameters()
        return {name: p.detach().clone() for name, p in named if p.requires_grad}

    @property
    def remarks(self) -> list[str]:
        told: list[str] = json.loads((self.folder / "training.json").read_text())["remarks"]
        return told

    def logged(self, name: str) -> dict[int, float]:
        lines = (self.folder / "history.jsonl").read_text().splitlines()
        return {e["step"]: e[name] for e in map(json.loads, lines) if name in e}


def settings(**changed: Any) -> TrainingConfig:
    base: dict[str, Any] = {
        "global_batch_size": 2, "micro_batch_size": 2, "learning_rate": 1e-2, "warmup_ratio": 0.0,
        "schedule": Schedule.constant, "log_every": 1, "num_workers": 0,
        "target_sampling": TargetSampling.first,
        "validation_split": "validation", "eval_every": 2, "best_metric": "ocr/exact_match",
    }  # fmt: skip
    return TrainingConfig(**(base | changed))


def trained(
    base: Path,
    examples: Sequence[Example],
    folder: Path,
    chosen: TrainingConfig,
    scores: Iterator[float],
    *,
    slices: Any = None,
) -> Trained:
    torch.manual_seed(7)
    folder.mkdir(exist_ok=True)
    network = Lora(rank=4).apply_to(load(Local(path=str(base))))
    run = Trained(network, folder)

    def measure() -> dict[str, float]:
        run.measured.append(run.weights)
        return {str(chosen.best_metric): next(scores)}

    visits = TrainingSet(examples, chosen.target_sampling, 0)
    collator = Collator(AutoProcessor.from_pretrained(base))
    data = TrainingData(visits, collator, (slices or {}).get("minitrain", ()))
    validation = (slices or {}).get("minival")
    train(network, data, chosen, folder, validation=validation, eval_fn=measure)
    return run


def same(one: Weights, other: Weights) -> bool:
    return all(torch.equal(one[name], value) for name, value in other.items())


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
def test_a_training_ends_with_the_weights_of_its_best_measurement(
    metric: str,
    scores: list[float],
    best: int,
    save_every: int | None,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    chosen = settings(max_steps=6, best_metric=metric, save_every=save_every, keep_checkpoints=1)
    run = trained(tiny("paligemma"), examples, tmp_path, chosen, iter(scores))
    assert same(run.weights, run.measured[best])
    assert not any(same(run.weights, w) for i, w in enumerate(run.measured) if i != best)
    step = 2 * (best + 1)
    assert run.remarks[0].startswith(f"the adapter is that of step {step}, the best of 3")
    kept = load_file(tmp_path / f"checkpoints/checkpoint-{step}/weights.safetensors")
    ended = run.weights
    assert kept.keys() == ended.keys()
    assert same(kept, ended)


def test_a_share_of_the_run_measures_at_its_multiples(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    chosen = settings(max_steps=8, eval_every=0.25)
    run = trained(tiny("paligemma"), examples, tmp_path, chosen, iter([0.1, 0.2, 0.3, 0.4]))
    assert list(run.logged("validation/ocr/exact_match")) == [2, 4, 6, 8]


def test_patience_ends_a_training_that_gets_no_better(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    chosen = settings(max_steps=20, early_stopping_patience=2)
    run = trained(tiny("paligemma"), examples, tmp_path, chosen, iter([0.1, 0.9, 0.9, 0.2]))
    assert max(run.logged("loss")) == 8
    assert same(run.weights, run.measured[1])
    assert run.remarks[1].startswith("training stopped early at step 8 of 20: 2 measurements")


def test_patience_counts_epochs_where_nothing_else_is_said(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    chosen = settings(epochs=9, global_batch_size=2, eval_every=None, early_stopping_patience=1)
    run = trained(tiny("paligemma"), examples, tmp_path, chosen, iter([0.5, 0.1]))
    assert max(run.logged("loss")) == 6  # five examples are three steps
    assert same(run.weights, run.measured[0])


def test_a_resumed_training_knows_its_best_and_its_patience(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    """Cut off at step 6, moved, and gone on with: it stops where the whole one does."""
    scores = [0.1, 0.9, 0.2, 0.3, 0.4]
    base = tiny("paligemma")
    whole = trained(
        base,
        examples,
        tmp_path / "whole",
        settings(max_steps=20, early_stopping_patience=3),
        iter(scores),
    )
    trained(
        base,
        examples,
        tmp_path / "first",
        settings(max_steps=6, early_stopping_patience=3),
        iter(scores),
    )
    (tmp_path / "first").rename(tmp_path / "moved")
    chosen = settings(max_steps=20, early_stopping_patience=3, resume="auto")
    resumed = trained(base, examples, tmp_path / "moved", chosen, iter(scores[3:]))
    assert max(resumed.logged("loss")) == max(whole.logged("loss")) == 10
    assert len(resumed.measured) == 2
    assert same(resumed.weights, whole.weights)
    assert resumed.remarks == whole.remarks

    again = trained(base, examples, tmp_path / "moved", chosen, iter([]))
    assert same(again.weights, whole.weights)
    assert again.remarks == whole.remarks
    assert again.logged("loss") == resumed.logged("loss")


def test_loss_and_perplexity_of_slices_are_logged_and_can_be_compared_by(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    chosen = settings(
        max_steps=6, best_metric="minival/loss", eval_loss_every=1, early_stopping_patience=9
    )
    slices = {
        "minitrain": [SimpleNamespace(name="ocr", examples=examples[:2])],
        "minival": [SimpleNamespace(name="ocr", examples=examples[2:])],
    }
    plain = settings(max_steps=6)
    run = trained(
        tiny("paligemma"), examples[:2], tmp_path / "a", chosen, iter([0.0] * 3), slices=slices
    )
    for slice_name in slices:
        assert list(run.logged(f"{slice_name}/loss")) == [0, 1, 2, 3, 4, 5, 6]
        assert list(run.logged(f"{slice_name}/ocr/perplexity")) == [0, 1, 2, 3, 4, 5, 6]
    falling = run.logged("minitrain/loss")
    assert falling[6] < falling[0]
    compared = {step: run.logged("minival/loss")[step] for step in (2, 4, 6)}
    best = min(compared, key=compared.__getitem__)
    assert run.remarks[0].startswith(f"the adapter is that of step {best}, the best of 3")

    unwatched = trained(tiny("paligemma"), examples[:2], tmp_path / "b", plain, iter([0.0] * 3))
    assert run.logged("loss") == unwatched.logged("loss")
