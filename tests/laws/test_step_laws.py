"""One training step equals the stock one: loss and every LoRA gradient."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

from palitune.data.collator import Batch, Collator
from palitune.data.visits import Visit
from palitune.examples import Example
from palitune.models.adapters import Lora
from palitune.models.checkpoints import Attention, Local
from palitune.models.loading import load
from palitune.models.prefix_lm import normalize
from palitune.training.loss import count_items, token_weights
from palitune.training.settings import LossReduction

Gradients = dict[str, torch.Tensor]


def batch_of(base: Path, examples: list[Example]) -> Batch:
    collator = Collator(AutoProcessor.from_pretrained(base))
    return collator.train([Visit(example, example.suffixes[0]) for example in examples])


def randomize(network: Any, seed: int = 3) -> None:
    """Move the adapter off its start, where half of the gradients are zero."""
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


def assert_equal(found: tuple[float, Gradients], wanted: tuple[float, Gradients]) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    assert found[1].keys() == wanted[1].keys()
    for name, gradient in wanted[1].items():
        assert (found[1][name] - gradient).norm() <= 1e-5 * gradient.norm(), name


def stock_step(base: Path, batch: Batch, adapter: Lora, capped: bool) -> tuple[float, Gradients]:
    """What `forward(labels=...)` of transformers and PEFT's own layers make of the batch."""
    stock: Any = PaliGemmaForConditionalGeneration.from_pretrained(base)
    if not capped:
        stock.config.text_config.final_logit_softcapping = None
    config = LoraConfig(r=4, lora_alpha=8, target_modules=adapter.hits(stock))
    network = get_peft_model(stock, config)
    randomize(network)
    pixels = normalize(batch["pixel_values"])
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
    network = adapter.attach(load(Local(path=str(tiny(family)), final_logit_softcapping=capped)))
    randomize(network)
    assert_equal(
        step(network, batch, LossReduction.token),
        stock_step(tiny(family), batch, adapter, capped),
    )


@pytest.mark.parametrize("attention", [Attention.eager, Attention.chunked])
def test_gradient_checkpointing_changes_no_gradient(
    attention: Attention, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    base = tiny("paligemma2")
    batch = batch_of(base, examples)
    network = Lora(rank=4).attach(load(Local(path=str(base), attention=attention))).train()
    randomize(network)
    plain = step(network, batch, LossReduction.example)
    network.gradient_checkpointing_enable({"use_reentrant": False})
    assert_equal(step(network, batch, LossReduction.example), plain)
