"""Full fine-tuning with float32 weights and bfloat16 products, in training and in generation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.training_set import TrainingSample
from palitune.models.adapters.config import Full
from palitune.models.config import Local
from palitune.models.generation.generate import generate
from palitune.models.loading import load
from palitune.records import Example

PRODUCTS = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.linear)


class ProductDtypes(TorchDispatchMode):
    """Counts matrix products by dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[torch.dtype, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func.overloadpacket in PRODUCTS:
            self.counts[output.dtype] = self.counts.get(output.dtype, 0) + 1
        return output


@pytest.fixture(params=["paligemma", "paligemma2"])
def base(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> Path:
    return tiny(request.param)


def make_network(base: Path, dtype: torch.dtype | None) -> Any:
    network: Any = Full().apply_to(load(Local(path=str(base)), Full()))
    network.autocast_dtype = dtype
    return network


def make_collator(base: Path) -> Collator:
    return Collator(AutoProcessor.from_pretrained(base))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_step_has_bfloat16_products_and_float32_gradients(
    base: Path, checkpointing: bool, examples: list[Example]
) -> None:
    batch = make_collator(base).collate_train(
        [TrainingSample(example, example.suffixes[0]) for example in examples]
    )
    gradients = {}
    for dtype in (None, torch.bfloat16):
        network = make_network(base, dtype).train()
        if checkpointing:
            network.gradient_checkpointing_enable({"use_reentrant": False})
        with ProductDtypes() as products:
            network(**batch).loss.mean().backward()
        weights = dict(network.named_parameters())
        assert {weight.dtype for weight in weights.values()} == {torch.float32}
        assert {weight.grad.dtype for weight in weights.values()} == {torch.float32}
        gradients[dtype] = torch.cat([weight.grad.flatten() for weight in weights.values()])
        most = max(products.counts, key=products.counts.__getitem__)
        assert most == (dtype or torch.float32)
    error = (gradients[None] - gradients[torch.bfloat16]).norm() / gradients[None].norm()
    assert 1e-4 < error < 0.05


def test_generation_has_bfloat16_products_for_every_token(
    base: Path, examples: list[Example]
) -> None:
    network, collator = make_network(base, torch.bfloat16), make_collator(base)
    prompts = collator.collate_prompts(examples)
    with ProductDtypes() as products:
        generate(network, collator.tokenizer, prompts, 3)
    total = sum(products.counts.values())
    assert products.counts[torch.bfloat16] > 0.8 * total
