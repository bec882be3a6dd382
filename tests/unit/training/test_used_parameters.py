"""Every trainable parameter gets a gradient in every step, as DDP assumes here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.training_set import TrainingSample
from palitune.models.adapters.config import MODULE_GROUPS, AdapterConfig, Full, Lora, Qlora
from palitune.models.config import Local
from palitune.models.loading import load
from palitune.records import Example


@pytest.mark.parametrize("family", ["paligemma", "paligemma2"])
@pytest.mark.parametrize(
    "adapter", [Lora(targets=[*MODULE_GROUPS]), Lora(dora=True, dropout=0.1), Qlora(), Full()]
)
def test_a_step_uses_all_trainable_parameters(
    adapter: AdapterConfig, family: str, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    base = tiny(family)
    network: Any = adapter.apply_to(load(Local(path=str(base)), adapter)).train()
    example = examples[0]
    sample = TrainingSample(example, example.suffixes[0])
    batch = Collator(AutoProcessor.from_pretrained(base)).collate_train([sample])
    network(**batch).loss.sum().backward()
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    assert trained
    assert [name for name, p in trained.items() if p.grad is None] == []
