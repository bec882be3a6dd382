"""Several images in one row: their tokens follow each other, before the prefix."""

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
def two_images(examples: list[Example]) -> Example:
    """A question about two images."""
    first, second = examples[2], examples[3]
    return replace(first, images=first.images + second.images)


def sample(example: Example) -> TrainingSample:
    return TrainingSample(example, example.suffixes[0])


def reference_logits(stock: Any, collator: Collator, example: Example) -> torch.Tensor:
    """Return the suffix logits of the stock model with explicit embeddings and mask."""
    tokenizer = collator.tokenizer
    prompt = [
        tokenizer.bos_token_id,
        *tokenizer.encode(f"{example.prefix}\n", add_special_tokens=False),
    ]
    suffix = tokenizer.encode(example.suffixes[0], add_special_tokens=False)
    with torch.no_grad():
        images = [
            stock.model.get_image_features(
                normalize_pixels(collator.load_pixels(path, IDENTITY_TRANSFORM))[None]
            )
            for path in example.images
        ]
        texts = stock.get_input_embeddings()(torch.tensor([prompt + suffix]))
        embeddings = torch.cat([*(image.pooler_output for image in images), texts], dim=1)
        start, end = embeddings.shape[1] - len(suffix), embeddings.shape[1]
        visible = torch.ones(end, end).tril().bool()
        visible[:, :start] = True
        mask = torch.zeros(1, 1, end, end).masked_fill(~visible, torch.finfo(torch.float32).min)
        positions = torch.arange(1, end + 1)[None]
        hidden = stock.model.language_model(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        logits: torch.Tensor = stock.lm_head(hidden)[0, start - 1 :]
    cap = getattr(stock.config.text_config, "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_those_of_the_stock_model_with_concatenated_features(
    family: str, tiny: Callable[[str], Path], examples: list[Example], two_images: Example
) -> None:
    collator = Collator(AutoProcessor.from_pretrained(tiny(family)))
    stock = PaliGemmaForConditionalGeneration.from_pretrained(
        tiny(family), attn_implementation="eager"
    )
    batch = collator.collate_train([sample(two_images), sample(examples[4])])
    positions = loss_positions(batch.pop("labels"))
    with torch.no_grad():
        actual = PaliGemmaPrefixLM.from_pretrained(tiny(family))(
            **batch, logits_to_keep=positions
        ).logits
    expected = torch.cat(
        [reference_logits(stock, collator, example) for example in (two_images, examples[4])]
    )
    assert torch.allclose(actual, expected, atol=1e-5)


def test_rows_that_share_images_in_another_order_store_each_image_once(
    tiny: Callable[[str], Path], two_images: Example
) -> None:
    collator = Collator(AutoProcessor.from_pretrained(tiny("paligemma")))
    network = PaliGemmaPrefixLM.from_pretrained(tiny("paligemma"))
    reversed_images = replace(two_images, images=two_images.images[::-1])
    batch = collator.collate_train([sample(two_images), sample(reversed_images)])
    assert len(batch["pixel_values"]) == 2
    assert batch["image_index"].tolist() == [0, 1, 1, 0]
    with torch.no_grad():
        losses = network(**batch).loss
        separate = [
            network(**collator.collate_train([sample(example)])).loss
            for example in (two_images, reversed_images)
        ]
    assert torch.allclose(losses, torch.cat(separate), atol=1e-5)
    assert not torch.allclose(separate[0], separate[1], atol=1e-3)


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_generations_in_a_batch_of_one_and_two_images_equal_separate_ones(
    family: str,
    beams: int,
    tiny: Callable[[str], Path],
    examples: list[Example],
    two_images: Example,
) -> None:
    processor = AutoProcessor.from_pretrained(tiny(family))
    network = PaliGemmaPrefixLM.from_pretrained(tiny(family))
    collator = Collator(processor)

    def generations(*prompts: Example) -> list[Any]:
        return generate(
            network, processor.tokenizer, collator.collate_prompts(prompts), 6, num_beams=beams
        )

    batched = generations(examples[0], two_images, examples[4])
    separate = [generations(prompt)[0] for prompt in (examples[0], two_images, examples[4])]
    assert [output.text for output in batched] == [output.text for output in separate]
    for actual, expected in zip(batched, separate, strict=True):
        assert actual.log_probs == pytest.approx(expected.log_probs, abs=1e-4)
