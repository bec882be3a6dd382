"""Equivalences of training: gradient accumulation, padding, resuming, and the first loss."""

import contextlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.dataset import load_split
from palitune.data.images.augmentation import GeometricAugmentation
from palitune.data.sources.coco import Coco
from palitune.data.training_set import TargetSampling, TrainingSample, TrainingSet
from palitune.errors import TrainingError
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.lm_head import loss_positions, token_losses
from palitune.models.loading import load
from palitune.records import Example
from palitune.tasks.detection import Detection
from palitune.training.config import LossReduction, Optimizer, Schedule, TrainingConfig
from palitune.training.data import TrainingData, build_training_data
from palitune.training.loss import token_weights
from palitune.training.train import train

from support.toy_data import write_toy_coco


def settings(**changed: Any) -> TrainingConfig:
    base: dict[str, Any] = {
        "global_batch_size": 4,
        "micro_batch_size": 4,
        "max_steps": 3,
        "learning_rate": 1e-2,
        "schedule": Schedule.constant,
        "warmup_ratio": 0.0,
        "log_every": 1,
        "num_workers": 0,
        "target_sampling": TargetSampling.first,
    }
    return TrainingConfig(**(base | changed))


def history(folder: Path, key: str) -> list[float]:
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [entry[key] for entry in map(json.loads, lines) if key in entry]


def losses(folder: Path) -> list[float]:
    return history(folder, "loss")


def train_weights(
    base: Path, examples: Sequence[Example], folder: Path, chosen: TrainingConfig
) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(7)
    network = Lora(rank=4, targets=["language", "projector"]).apply_to(load(Local(path=str(base))))
    collator = Collator(AutoProcessor.from_pretrained(base))
    data = TrainingData(TrainingSet(examples, chosen.target_sampling, 0), collator)
    train(network, data, chosen, folder)
    return {
        name: value.detach().clone()
        for name, value in network.named_parameters()
        if value.requires_grad
    }


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
@pytest.mark.parametrize("reduction", list(LossReduction))
def test_one_batch_of_four_equals_four_of_one(
    family: str,
    reduction: LossReduction,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    once = settings(loss_reduction=reduction)
    four_times = settings(loss_reduction=reduction, micro_batch_size=1)
    train_weights(tiny(family), examples[:4], tmp_path / "1x4", once)
    train_weights(tiny(family), examples[:4], tmp_path / "4x1", four_times)
    for key in ("loss", "grad_norm"):
        whole, pieces = (history(tmp_path / run, key) for run in ("1x4", "4x1"))
        assert len(whole) == 3
        assert whole == pytest.approx(pieces, rel=2e-6), key


def test_the_first_logged_loss_is_the_mean_over_examples_of_their_token_means(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    train_weights(tiny("paligemma2"), examples[:4], tmp_path, settings(max_steps=1))
    network = load(Local(path=str(tiny("paligemma2"))))
    collator = Collator(AutoProcessor.from_pretrained(tiny("paligemma2")))
    expected = []
    for example in examples[:4]:
        batch = collator.collate_train([TrainingSample(example, example.suffixes[0])])
        labels = batch.pop("labels")
        with torch.no_grad():
            logits = network(**batch).logits[0, :-1]
        labeled = labels[0, 1:] != -100
        nll = torch.nn.functional.cross_entropy(logits[labeled], labels[0, 1:][labeled])
        expected.append(float(nll))
    # Losses in the history are rounded to four digits.
    assert losses(tmp_path)[0] == pytest.approx(sum(expected) / 4, abs=1e-4)


def test_gradient_checkpointing_changes_no_weight(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    plain = train_weights(tiny("paligemma2"), examples, tmp_path / "plain", settings())
    saving = settings(gradient_checkpointing=True)
    recomputed = train_weights(tiny("paligemma2"), examples, tmp_path / "saving", saving)
    for name, value in plain.items():
        assert torch.allclose(value, recomputed[name], atol=1e-6), name


@pytest.mark.parametrize("group_by_length", [False, True])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    group_by_length: bool, tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    base = tiny("paligemma")
    chosen: dict[str, Any] = {"global_batch_size": 2, "micro_batch_size": 1, "save_every": 2}
    chosen |= {"group_by_length": group_by_length}
    chosen |= {"target_sampling": TargetSampling.sample, "epochs": 2}
    whole = train_weights(base, examples, tmp_path / "whole", settings(max_steps=6, **chosen))
    halves = settings(max_steps=6, resume="auto", **chosen)
    train_weights(base, examples, tmp_path / "halves", settings(max_steps=4, **chosen))
    resumed = train_weights(base, examples, tmp_path / "halves", halves)
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name


def test_a_resumed_run_has_the_augmentation_of_an_uninterrupted_one(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    source = Coco(path=str(write_toy_coco(tmp_path / "boxes")))
    datasets = load_split(source, Detection(), "train")
    base = tiny("paligemma")
    chosen: dict[str, Any] = {"micro_batch_size": 2, "save_every": 2, "epochs": 2}
    processor = AutoProcessor.from_pretrained(base)

    def train_for(steps: int, folder: Path, resume: str | None = None) -> list[float]:
        torch.manual_seed(7)
        network = Lora(rank=4).apply_to(load(Local(path=str(base))))
        config = settings(max_steps=steps, resume=resume, num_workers=1, **chosen)
        data = build_training_data(processor, datasets, config, GeometricAugmentation(), seed=3)
        train(network, data, config, folder)
        return losses(folder)

    for folder in ("whole", "halves"):
        (tmp_path / folder).mkdir()
    whole = train_for(6, tmp_path / "whole")
    train_for(4, tmp_path / "halves")
    assert train_for(6, tmp_path / "halves", resume="auto") == whole


@pytest.mark.parametrize("optimizer", [Optimizer.adamw, Optimizer.adamw_8bit])
def test_a_training_that_learns_lowers_the_loss_of_its_examples(
    optimizer: Optimizer, tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    chosen = settings(max_steps=15, optimizer=optimizer)
    train_weights(tiny("paligemma2"), examples[:4], tmp_path, chosen)
    assert losses(tmp_path)[-1] < 0.5 * losses(tmp_path)[0]


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Schedule.linear, [1 / 3, 0.5, 1.0, 0.75, 0.5, 0.25]),
        (Schedule.cosine, [1 / 3, 0.5, 1.0, 0.8536, 0.5, 0.1464]),
        (Schedule.constant, [1 / 3, 0.5, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_the_learning_rate_warms_up_and_then_follows_its_schedule(
    schedule: Schedule,
    rates: list[float],
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    chosen = settings(max_steps=6, warmup_ratio=2 / 6, schedule=schedule, learning_rate=1.0)
    with contextlib.suppress(TrainingError):  # such a rate may diverge; only the schedule matters
        train_weights(tiny("paligemma"), examples[:1], tmp_path, chosen)
    shares = history(tmp_path, "learning_rate")
    assert shares == pytest.approx(rates[: len(shares)], abs=1e-4)
    assert len(shares) > 3


def test_the_network_ends_with_the_weights_of_the_best_validation(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    base = tiny("paligemma")
    network = Lora(rank=4).apply_to(load(Local(path=str(base))))
    collator = Collator(AutoProcessor.from_pretrained(base))
    chosen = settings(
        max_steps=6,
        validation_split="validation",
        eval_every=2,
        best_metric="ocr/exact_match",
    )
    scores = iter([0.3, 0.9, 0.1])
    weights_at_eval: list[dict[str, torch.Tensor]] = []

    def evaluate() -> dict[str, float]:
        weights = {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}
        weights_at_eval.append(weights)
        return {"ocr/exact_match": next(scores)}

    data = TrainingData(TrainingSet(examples, TargetSampling.first, 0), collator)
    train(network, data, chosen, tmp_path, eval_fn=evaluate)
    final = {n: p for n, p in network.named_parameters() if p.requires_grad}
    assert all(torch.equal(final[name], value) for name, value in weights_at_eval[1].items())
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    measured = [e["validation/ocr/exact_match"] for e in history if len(e) and "loss" not in e]
    assert measured == [0.3, 0.9, 0.1]


def test_a_nan_loss_ends_the_run(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"training diverged at step \d+ \(loss"):
        train_weights(
            tiny("paligemma"), examples, tmp_path, settings(learning_rate=1e30, max_steps=20)
        )


def test_weights_of_a_row_do_not_depend_on_its_padding() -> None:
    short = torch.tensor([[-100, 3, 4, -100, -100, -100]])
    assert torch.equal(
        token_weights(short, LossReduction.example),
        token_weights(short[:, :3], LossReduction.example),
    )
    assert loss_positions(short).sum() == 2
    assert token_losses(torch.zeros(2, 8), torch.tensor([3, 4])).tolist() == pytest.approx(
        [2.0794415] * 2
    )
