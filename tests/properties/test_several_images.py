"""Several images in one row are their tokens one after the other, before the prefix."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

from palitune.data.collator import Collator
from palitune.data.images.transforms import IDENTITY_TRANSFORM
from palitune.data.training_set import TrainingSample
from palitune.models.generation.generate import generate
from palitune.models.lm_head import loss_positions
from palitune.models.paligemma import PaliGemmaPrefixLM, normalize_pixels
from palitune.records import Example

FAMILIES = ["paligemma", "paligemma2"]


@pytest.fixture
def both(examples: list[Example]) -> Example:
    """A question about two images."""
    first, second = examples[2], examples[3]
    return replace(first, images=first.images + second.images)


def visit(example: Example) -> TrainingSample:
    return TrainingSample(example, example.suffixes[0])


def by_hand(stock: Any, collator: Collator, example: Example) -> torch.Tensor:
    """Return the logits of the suffix, of features laid side by side and a mask drawn by hand."""
    tokens = collator.tokenizer
    prompt = [tokens.bos_token_id, *tokens.encode(f"{example.prefix}\n", add_special_tokens=False)]
    suffix = tokens.encode(example.suffixes[0], add_special_tokens=False)
    with torch.no_grad():
        images = [
            stock.model.get_image_features(
                normalize_pixels(collator.load_pixels(path, IDENTITY_TRANSFORM))[None]
            )
            for path in example.images
        ]
        texts = stock.get_input_embeddings()(torch.tensor([prompt + suffix]))
        laid = torch.cat([*(image.pooler_output for image in images), texts], dim=1)
        start, end = laid.shape[1] - len(suffix), laid.shape[1]
        visible = torch.ones(end, end).tril().bool()
        visible[:, :start] = True
        mask = torch.zeros(1, 1, end, end).masked_fill(~visible, torch.finfo(torch.float32).min)
        positions = torch.arange(1, end + 1)[None]
        hidden = stock.model.language_model(
            inputs_embeds=laid, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        logits: torch.Tensor = stock.lm_head(hidden)[0, start - 1 :]
    cap = getattr(stock.config.text_config, "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_those_of_features_laid_side_by_side_by_hand(
    family: str, tiny: Callable[[str], Path], examples: list[Example], both: Example
) -> None:
    collator = Collator(AutoProcessor.from_pretrained(tiny(family)))
    stock = PaliGemmaForConditionalGeneration.from_pretrained(
        tiny(family), attn_implementation="eager"
    )
    batch = collator.collate_train([visit(both), visit(examples[4])])
    positions = loss_positions(batch.pop("labels"))
    with torch.no_grad():
        ours = PaliGemmaPrefixLM.from_pretrained(tiny(family))(
            **batch, logits_to_keep=positions
        ).logits
    theirs = torch.cat([by_hand(stock, collator, example) for example in (both, examples[4])])
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_rows_that_share_images_in_another_order_hold_each_once(
    tiny: Callable[[str], Path], both: Example
) -> None:
    collator = Collator(AutoProcessor.from_pretrained(tiny("paligemma")))
    network = PaliGemmaPrefixLM.from_pretrained(tiny("paligemma"))
    turned = replace(both, images=both.images[::-1])
    together = collator.collate_train([visit(both), visit(turned)])
    assert len(together["pixel_values"]) == 2
    assert together["image_index"].tolist() == [0, 1, 1, 0]
    with torch.no_grad():
        losses = network(**together).loss
        alone = [network(**collator.collate_train([visit(row)])).loss for row in (both, turned)]
    assert torch.allclose(losses, torch.cat(alone), atol=1e-5)
    assert not torch.allclose(alone[0], alone[1], atol=1e-3)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_in_a_batch_of_one_and_two_images_are_those_of_each_alone(
    family: str, beams: int, tiny: Callable[[str], Path], examples: list[Example], both: Example
) -> None:
    processor = AutoProcessor.from_pretrained(tiny(family))
    network = PaliGemmaPrefixLM.from_pretrained(tiny(family))
    collator = Collator(processor)

    def answers(*rows: Example) -> list[Any]:
        return generate(
            network, processor.tokenizer, collator.collate_prompts(rows), 6, num_beams=beams
        )

    together = answers(examples[0], both, examples[4])
    alone = [answers(row)[0] for row in (examples[0], both, examples[4])]
    assert [output.text for output in together] == [output.text for output in alone]
    for ours, single in zip(together, alone, strict=True):
        assert ours.log_probs == pytest.approx(single.log_probs, abs=1e-4)
