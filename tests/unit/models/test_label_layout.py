"""A batch's layout from the CPU changes nothing, and is wrong for no other batch."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from palitune.data.collator import Batch, Collator
from palitune.data.training_set import TrainingSample
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.label_layout import LabelLayout
from palitune.models.loading import load
from palitune.records import Example
from palitune.training.config import LossReduction
from palitune.training.data import TrainingCollator
from palitune.training.loss import count_items, token_weights


@pytest.fixture(params=["paligemma", "paligemma2"])
def base(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Path:
    return tiny(request.param)


def collated(base: Path, examples: list[Example]) -> tuple[Batch, dict[str, Any]]:
    """The batch of a collator, and that of the training."""
    collator = Collator(AutoProcessor.from_pretrained(base))
    samples = [TrainingSample(example, *example.suffixes[:1]) for example in examples]
    training = TrainingCollator(collator, LossReduction.example)
    return collator.collate_train(samples), training(samples)


def loss_and_gradients(network: Any, batch: Any) -> list[torch.Tensor]:
    network.zero_grad()
    losses = network(**batch).loss
    losses.sum().backward()
    return [losses.detach(), *(p.grad for p in network.parameters() if p.requires_grad)]


def test_losses_and_gradients_are_the_same_with_the_layout(
    base: Path, examples: list[Example]
) -> None:
    network = Lora(rank=4).apply_to(load(Local(path=str(base))))
    plain, prepared = collated(base, examples)
    inputs = {k: v for k, v in prepared.items() if k not in ("label_weights", "num_items")}
    pairs = zip(
        loss_and_gradients(network, plain), loss_and_gradients(network, inputs), strict=True
    )
    assert all(torch.equal(without, with_layout) for without, with_layout in pairs)


def test_weights_and_items_are_those_of_the_labels(base: Path, examples: list[Example]) -> None:
    plain, prepared = collated(base, examples)
    label_inputs = plain["labels"], LossReduction.example, plain["token_type_ids"]
    assert torch.equal(prepared["label_weights"], token_weights(*label_inputs))
    assert prepared["num_items"] == count_items(*label_inputs)
    assert all(torch.equal(prepared[name], tensor) for name, tensor in plain.items())


def test_a_missing_image_is_an_error(base: Path, examples: list[Example]) -> None:
    network = load(Local(path=str(base)))
    batch, prepared = collated(base, examples)
    batch["pixel_values"] = batch["pixel_values"][1:]
    for layout in (None, prepared["label_layout"]):
        with pytest.raises(ValueError, match=r"image tokens and .* image features"):
            network(**batch, label_layout=layout)


def test_a_layout_moves_with_all_its_tensors(base: Path, examples: list[Example]) -> None:
    layout = collated(base, examples)[1]["label_layout"]
    moved = layout.to(torch.device("meta"), non_blocking=True)
    assert isinstance(moved, LabelLayout)
    assert {getattr(moved, field.name).device.type for field in fields(layout)} == {"meta"}
