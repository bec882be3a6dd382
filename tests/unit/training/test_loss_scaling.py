"""Training on a base in fp16 scales the loss, so that small gradients do not vanish."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.errors import TrainingError
from palitune.models.adapters.config import Lora
from palitune.models.config import Dtype, Local
from palitune.models.loading import load
from palitune.records import Example
from palitune.training.arguments import build_training_arguments
from palitune.training.config import Schedule, TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.state import state_files
from palitune.training.state.resume import STATE_STEM
from palitune.training.train import train
from palitune.training.trainer import PrefixTrainer


def make_network(base: Path, dtype: Dtype) -> Any:
    torch.manual_seed(0)
    network: Any = Lora(rank=4).apply_to(load(Local(path=str(base), dtype=dtype)))
    generator = torch.Generator().manual_seed(3)
    for name, weight in sorted(network.named_parameters()):
        if "lora_" in name:  # half of the initial gradients are zero
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    return network


def make_data(base: Path, examples: list[Example]) -> TrainingData:
    collator = Collator(AutoProcessor.from_pretrained(base))
    return TrainingData(TrainingSet(examples, TargetSampling.sample, 0), collator)


def make_trainer(network: Any, data: TrainingData, folder: Path) -> PrefixTrainer:
    settings = TrainingConfig(num_workers=0)
    arguments = build_training_arguments(
        settings, 0, folder, do_eval=False, device=torch.device("cpu")
    )
    return PrefixTrainer(settings, data, folder=folder, model=network, args=arguments)


def gradient_error(
    trainer: PrefixTrainer, reference: dict[str, torch.Tensor], items: float
) -> float:
    """Return the relative error of the gradients of a batch that is a small share of all items."""
    network: Any = trainer.model
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.training_step(network, batch, torch.tensor(items))
    scale = trainer.accelerator.scaler.get_scale() if trainer.accelerator.scaler else 1.0
    gradients = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    network.zero_grad()
    differences = [gradients[name] / scale - value for name, value in reference.items()]
    total = torch.cat([value.flatten() for value in reference.values()]).norm()
    return float(torch.cat([difference.flatten() for difference in differences]).norm() / total)


def test_small_gradients_survive_in_fp16(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    base, items = tiny("paligemma"), 1e5
    data = make_data(base, examples)
    exact = make_trainer(make_network(base, Dtype.fp32), data, tmp_path)
    assert exact.accelerator.scaler is None
    batch = next(iter(exact.get_train_dataloader()))
    exact.training_step(exact.model, batch, torch.tensor(items))
    reference = {n: p.grad for n, p in exact.model.named_parameters() if p.requires_grad}

    trainer = make_trainer(make_network(base, Dtype.fp16), data, tmp_path)
    scaled = gradient_error(trainer, reference, items)
    trainer.accelerator.scaler = None
    unscaled = gradient_error(trainer, reference, items)
    assert scaled < 0.03
    assert unscaled > 3 * scaled


def test_a_training_in_fp16_skips_overflowing_steps_and_resumes_with_its_scale(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    base = tiny("paligemma")
    data = make_data(base, examples)

    def run(folder: str, resume: Path | None = None) -> dict[str, torch.Tensor]:
        network = make_network(base, Dtype.fp16)
        settings = TrainingConfig(
            global_batch_size=4,
            max_steps=4,
            learning_rate=1e-2,
            schedule=Schedule.constant,
            warmup_ratio=0.0,
            num_workers=0,
            save_every=2,
            log_every=1,
            resume=resume and str(resume),
        )
        (tmp_path / folder).mkdir()
        train(network, data, settings, tmp_path / folder)
        return {name: p.data for name, p in network.named_parameters() if p.requires_grad}

    whole = run("whole")
    half = tmp_path / "whole" / "checkpoints" / "checkpoint-2"
    # The second step overflows: it is skipped, and the scale of 65,536 is halved.
    assert state_files.load_tree(half / STATE_STEM)["scaler"]["scale"] == 32768
    resumed = run("resumed", resume=half)
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())
    history = (tmp_path / "whole" / "history.jsonl").read_text().splitlines()
    norms = [json.loads(line).get("grad_norm") for line in history if '"loss"' in line]
    assert norms[1] is None
    assert all(0 < norm < 100 for norm in (norms[0], *norms[2:]))


def test_a_base_in_bf16_has_no_scaler(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    network = make_network(tiny("paligemma2"), Dtype.bf16)
    trainer = make_trainer(network, make_data(tiny("paligemma2"), examples), tmp_path)
    assert trainer.accelerator.scaler is None


def test_deepspeed_refuses_a_base_in_fp16(
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = PrefixTrainer.create_accelerator_and_postprocess

    def create_with_deepspeed(trainer: PrefixTrainer) -> None:
        create(trainer)
        trainer.is_deepspeed_enabled = True

    monkeypatch.setattr(PrefixTrainer, "create_accelerator_and_postprocess", create_with_deepspeed)
    data = make_data(tiny("paligemma"), examples)
    with pytest.raises(TrainingError, match=r"^launch=deepspeed does not scale the loss"):
        make_trainer(make_network(tiny("paligemma"), Dtype.fp16), data, tmp_path)
