"""Generation in left-padded batches equals one by one, and its log-probabilities are real."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.visits import Visit
from palitune.examples import Example
from palitune.models.generation import Generated, generate
from palitune.models.prefix_lm import PrefixLM
from palitune.training.loss import loss_positions, token_losses

FAMILIES = ["paligemma", "paligemma2"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_mixed_lengths_equals_single_prompts(
    family: str, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny(family))
    network = PrefixLM.from_pretrained(tiny(family))
    collator = Collator(processor)
    together = generate(network, processor.tokenizer, collator.prompt(examples), 8)
    alone = [
        generate(network, processor.tokenizer, collator.prompt([example]), 8)[0]
        for example in examples
    ]
    assert [output.text for output in together] == [output.text for output in alone]
    for ours, single in zip(together, alone, strict=True):
        assert ours.log_probs == pytest.approx(single.log_probs, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_equal_teacher_forcing(
    family: str, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny(family))
    network = PrefixLM.from_pretrained(tiny(family)).eval()
    collator = Collator(processor)
    output = generate(network, processor.tokenizer, collator.prompt(examples[:1]), 6)[0]
    count = len(output.ids)
    batch = collator.train([Visit(examples[0], "0" * count)])
    batch["input_ids"][0, -count - 1 : -1] = torch.tensor(output.ids)
    targets = torch.tensor(output.ids)
    positions = loss_positions(batch.pop("labels"))
    with torch.no_grad():
        logits = network(**batch, logits_to_keep=positions).logits
    forced = -token_losses(logits[:count], targets)
    assert count > 0
    assert forced.tolist() == pytest.approx(output.log_probs, abs=1e-4)


def test_generation_leaves_the_training_mode_as_it_was(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny("paligemma"))
    network = PrefixLM.from_pretrained(tiny("paligemma")).train()
    generate(network, processor.tokenizer, Collator(processor).prompt(examples[:1]), 2)
    assert network.training


def test_confidence_is_the_geometric_mean_over_the_tokens_of_a_span() -> None:
    half, quarter, certain = torch.tensor([0.5, 0.25, 1.0]).log().tolist()
    output = Generated("ab cd", (7, 8, 9), (1, 2, 5), (half, quarter, certain), finished=True)
    assert output.confidence(0, 2) == pytest.approx((0.5 * 0.25) ** 0.5)
    assert output.confidence(3, 5) == pytest.approx(1.0)
    assert output.confidence(1, 3) == pytest.approx(0.5)
