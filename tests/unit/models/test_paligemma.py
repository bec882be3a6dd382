"""PaliGemmaPrefixLM equals the stock class, and refuses a batch with a wrong mask."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

from palitune.data.collator import Batch, Collator
from palitune.data.training_set import TrainingSample
from palitune.models.lm_head import loss_positions
from palitune.models.paligemma import PaliGemmaPrefixLM, normalize_pixels
from palitune.records import Example

FAMILIES = ["paligemma", "paligemma2"]


def collate(folder: Path, examples: list[Example]) -> Batch:
    collator = Collator(AutoProcessor.from_pretrained(folder))
    return collator.collate_train(
        [TrainingSample(example, example.suffixes[0]) for example in examples]
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_those_of_the_stock_class(
    family: str, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    batch = collate(tiny(family), examples)
    stock = PaliGemmaForConditionalGeneration.from_pretrained(tiny(family))
    labels = batch.pop("labels")
    positions = loss_positions(labels)
    ours = PaliGemmaPrefixLM.from_pretrained(tiny(family))(**batch, logits_to_keep=positions).logits
    pixels = normalize_pixels(batch.pop("pixel_values"))
    theirs = stock(**batch, pixel_values=pixels).logits[positions]
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forward_pass_without_token_types_is_refused(
    family: str, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    network = PaliGemmaPrefixLM.from_pretrained(tiny(family))
    batch = collate(tiny(family), examples)
    del batch["token_type_ids"], batch["labels"]
    with pytest.raises(ValueError, match="token_type_ids are missing"):
        network(**batch)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_frozen_vision_tower_is_not_recorded_by_autograd(
    checkpointing: bool, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    network: Any = PaliGemmaPrefixLM.from_pretrained(tiny("paligemma")).train()
    network.requires_grad_(False)
    network.model.multi_modal_projector.requires_grad_(True)
    if checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
        network.enable_input_require_grads()
    features = network.model.get_image_features(
        collate(tiny("paligemma"), examples)["pixel_values"]
    )
    assert not features.last_hidden_state.requires_grad
    assert features.pooler_output.requires_grad


def test_a_trained_vision_tower_is_recorded_by_autograd(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    network = PaliGemmaPrefixLM.from_pretrained(tiny("paligemma"))
    features = network.model.get_image_features(
        collate(tiny("paligemma"), examples)["pixel_values"]
    )
    assert features.last_hidden_state.requires_grad
