"""One training step equals a reference: loss and every LoRA gradient.

The reference is transformers' `forward(labels=...)` with PEFT's layers, or one row per suffix.
"""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

from palitune.data.collator import Batch, Collator
from palitune.data.training_set import TargetSampling, TrainingSample, TrainingSet
from palitune.distributed.strategies import DeepSpeed, MultiProcess
from palitune.models.adapters.config import AdapterConfig, Full, Lora, Qlora
from palitune.models.config import AttentionImplementation, Local
from palitune.models.loading import load
from palitune.models.paligemma import normalize_pixels
from palitune.records import Example
from palitune.training.config import LossReduction
from palitune.training.loss import count_items, token_weights
from palitune.training.state import state_files
from palitune.training.state.resume import STATE_STEM

from support import train_all_suffixes
from support.train_all_suffixes import train_all

Gradients = dict[str, torch.Tensor]


def batch_of(base: Path, examples: list[Example]) -> Batch:
    collator = Collator(AutoProcessor.from_pretrained(base))
    return collator.collate_train(
        [TrainingSample(example, example.suffixes[0]) for example in examples]
    )


def randomize(network: Any, seed: int = 3) -> None:
    """Randomize the adapter, because half of its initial gradients are zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(network.named_parameters()):
        if "lora_" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)


def gradients(network: Any) -> Gradients:
    return {name: p.grad for name, p in network.named_parameters() if p.requires_grad}


def step(network: Any, batch: Batch, reduction: LossReduction) -> tuple[float, Gradients]:
    labels, types = batch["labels"], batch["token_type_ids"]
    losses = network(**batch).loss
    loss = (losses * token_weights(labels, reduction, types)).sum()
    loss = loss / count_items(labels, reduction, types)
    network.zero_grad()
    loss.backward()
    return float(loss.detach()), gradients(network)


def assert_equal(actual: tuple[float, Gradients], expected: tuple[float, Gradients]) -> None:
    assert actual[0] == pytest.approx(expected[0], rel=1e-5)
    assert actual[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert (actual[1][name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def stock_step(base: Path, batch: Batch, adapter: Lora, capped: bool) -> tuple[float, Gradients]:
    """Return loss and gradients of transformers' `forward(labels=...)` with PEFT's own layers."""
    stock: Any = PaliGemmaForConditionalGeneration.from_pretrained(base)
    if not capped:
        stock.config.text_config.final_logit_softcapping = None
    config = LoraConfig(r=4, lora_alpha=8, target_modules=adapter.target_modules(stock))
    network = get_peft_model(stock, config)
    randomize(network)
    pixels = normalize_pixels(batch["pixel_values"])
    network(**{**batch, "pixel_values": pixels}).loss.backward()
    with torch.no_grad():
        loss = network(**{**batch, "pixel_values": pixels}).loss
    return float(loss), gradients(network)


@pytest.mark.parametrize(
    ("family", "capped"), [("paligemma", False), ("paligemma2", False), ("paligemma2", True)]
)
@pytest.mark.parametrize(
    "targets", [["language"], ["language", "vision", "projector"], ["vision.mlp"]]
)
def test_loss_and_lora_gradients_equal_the_stock_ones(
    family: str,
    capped: bool,
    targets: list[str],
    tiny: Callable[[str], Path],
    examples: list[Example],
) -> None:
    batch = batch_of(tiny(family), examples)
    adapter = Lora(rank=4, alpha=8, targets=targets)
    network = adapter.apply_to(load(Local(path=str(tiny(family)), final_logit_softcapping=capped)))
    randomize(network)
    assert_equal(
        step(network, batch, LossReduction.token),
        stock_step(tiny(family), batch, adapter, capped),
    )


@pytest.mark.parametrize(
    "attention", [AttentionImplementation.eager, AttentionImplementation.chunked]
)
def test_gradient_checkpointing_changes_no_gradient(
    attention: AttentionImplementation, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    base = tiny("paligemma2")
    batch = batch_of(base, examples)
    network = Lora(rank=4).apply_to(load(Local(path=str(base), attention=attention))).train()
    randomize(network)
    plain = step(network, batch, LossReduction.example)
    network.gradient_checkpointing_enable({"use_reentrant": False})
    assert_equal(step(network, batch, LossReduction.example), plain)


CAPTIONS = ("a red boat", "boat", "two yellow buoys beside a red boat", "a boat 7", "boat")


@pytest.fixture
def annotated(examples: list[Example]) -> list[Example]:
    """Examples with five, one and two suffixes; the first two show the same image."""
    first = replace(examples[0], suffixes=CAPTIONS)
    return [first, replace(examples[1], images=first.images), examples[2], examples[4]]


def samples_of(examples: list[Example], sampling: TargetSampling) -> list[TrainingSample]:
    """One sample per example with all its suffixes, or one sample per suffix."""
    if sampling is TargetSampling.all:
        return [TrainingSet(examples, sampling, 0)[index] for index in range(len(examples))]
    return [TrainingSample(example, suffix) for example in examples for suffix in example.suffixes]


@pytest.mark.parametrize("reduction", list(LossReduction))
@pytest.mark.parametrize("window", [4096, 32])
@pytest.mark.parametrize(
    ("family", "adapter"),
    [
        ("paligemma", Lora(rank=4, targets=["language", "vision", "projector"])),
        ("paligemma2", Lora(rank=4)),
        ("paligemma2", Qlora(rank=4)),
    ],
)
def test_all_suffixes_in_one_row_equal_a_row_each(
    reduction: LossReduction,
    window: int,
    family: str,
    adapter: AdapterConfig,
    tiny: Callable[[str], Path],
    annotated: list[Example],
    tmp_path: Path,
) -> None:
    base = with_window(tiny(family), tmp_path, window)
    collator = Collator(AutoProcessor.from_pretrained(base))
    network = adapter.apply_to(load(Local(path=str(base)), adapter))
    randomize(network)
    packed = collator.collate_train(samples_of(annotated, TargetSampling.all))
    separate = collator.collate_train(samples_of(annotated, TargetSampling.first))
    assert (len(packed["input_ids"]), len(separate["input_ids"])) == (4, 9)
    assert len(packed["pixel_values"]) == len(separate["pixel_values"]) == 3
    assert_equal(step(network, packed, reduction), step(network, separate, reduction))


def with_window(base: Path, folder: Path, window: int) -> Path:
    """Return the model with another sliding window; PaliGemma 1, which has none, is unchanged."""
    config = json.loads((base / "config.json").read_text())
    config["text_config"]["sliding_window"] = window
    if config["text_config"]["model_type"] == "gemma":
        return base
    for file in base.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def deepspeed_resumed(checkpoint: Path, folder: Path) -> dict[str, Any]:
    """Settings of a DeepSpeed run that resumes from a checkpoint of a single process."""
    return {"launch": DeepSpeed(), "checkpoint": str(checkpoint), "folder": folder}


def test_training_on_all_suffixes_is_equal_with_accumulation_and_in_two_processes(
    tiny: Callable[[str], Path], annotated: list[Example], tmp_path: Path
) -> None:
    """Weights after three steps are equal, with rows of one, two and five suffixes.

    DeepSpeed resumes after the first step and gives the weights and the optimizer state of a single
    process, also if all weights are trained.
    """
    run: dict[str, Any] = {"base": tiny("paligemma2"), "examples": annotated}
    whole = train_all(**run, micro_batch_size=4, folder=tmp_path / "whole")
    pieces = train_all(**run, micro_batch_size=1, folder=tmp_path / "pieces")
    full = run | {"adapter": Full()}
    all_weights = train_all(**full, micro_batch_size=4, folder=tmp_path / "full")
    at = "checkpoints/checkpoint-{}"
    runs = [
        run | {"launch": MultiProcess(), "folder": tmp_path / "processes"},
        run | deepspeed_resumed(tmp_path / "whole" / at.format(1), tmp_path / "deepspeed"),
        full | deepspeed_resumed(tmp_path / "full" / at.format(1), tmp_path / "deepspeed_full"),
    ]
    (tmp_path / "runs.pickle").write_bytes(pickle.dumps(runs))
    command = [sys.executable, train_all_suffixes.__file__, str(tmp_path / "runs.pickle")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    two_processes, by_deepspeed, all_by_deepspeed = (
        torch.load(distributed["folder"] / "weights.pt") for distributed in runs
    )
    for other, reference in (
        (pieces, whole),
        (two_processes, whole),
        (by_deepspeed, whole),
        (all_by_deepspeed, all_weights),
    ):
        assert other.keys() == reference.keys()
        for name, weight in reference.items():
            # Key biases have no gradient except rounding errors, which move them by about 1e-6.
            rounding = 1e-5 if name.endswith("k_proj.bias") else 0
            assert (other[name] - weight).norm() <= 1e-4 * weight.norm() + rounding, name
    for names in (("deepspeed", "whole"), ("deepspeed_full", "full")):
        states = [
            state_files.load_tree(tmp_path / name / at.format(3) / STATE_STEM) for name in names
        ]
        torch.testing.assert_close(*(state["optimizer"] for state in states), rtol=1e-3, atol=1e-6)


def test_an_image_that_occurs_twice_is_encoded_once(
    tiny: Callable[[str], Path], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny("paligemma")
    network: Any = Lora(rank=4, targets=["vision"]).apply_to(load(Local(path=str(base))))
    randomize(network)
    same = [replace(example, images=examples[0].images) for example in examples]
    batch = batch_of(base, same)
    assert batch["image_index"].tolist() == [0] * 5
    repeated = batch | {"pixel_values": batch["pixel_values"][batch["image_index"]]}
    del repeated["image_index"]
    image_counts: list[int] = []
    tower = network.get_base_model().model.vision_tower
    tower.register_forward_pre_hook(lambda _, inputs: image_counts.append(len(inputs[0])))
    once = step(network, batch, LossReduction.example)
    assert_equal(once, step(network, repeated, LossReduction.example))
    assert image_counts == [1, 5]


def test_a_loss_over_prompt_or_image_positions_is_never_computed(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    base = tiny("paligemma2")
    batch = batch_of(base, examples)
    network: Any = load(Local(path=str(base)))
    rows: list[int] = []
    last = network.model.language_model.layers[-1].mlp
    last.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    labeled = int((batch["labels"] != -100).sum())
    assert network(**batch).loss.shape == (labeled,)
    assert rows == [labeled]
