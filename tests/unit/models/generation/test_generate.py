"""Generation in batches equals that of single prompts, with the log-probabilities of the model.

test_kv_cache compares the generated tokens with those of transformers.
"""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from palitune.codec.grammar import ObjectGrammar
from palitune.data.collator import Collator
from palitune.data.training_set import TrainingSample
from palitune.models.generation.generate import Generation, generate
from palitune.models.lm_head import loss_positions, token_losses
from palitune.models.paligemma import PaliGemmaPrefixLM
from palitune.records import Example, Instance
from palitune.tasks.detection import Detection

FAMILIES = ["paligemma", "paligemma2"]
BOATS = ObjectGrammar(("boat", "buoy"), max_objects=2, allow_empty=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_mixed_lengths_equals_single_prompts(
    family: str, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny(family))
    network = PaliGemmaPrefixLM.from_pretrained(tiny(family))
    collator = Collator(processor)
    together = generate(network, processor.tokenizer, collator.collate_prompts(examples), 8)
    alone = [
        generate(network, processor.tokenizer, collator.collate_prompts([example]), 8)[0]
        for example in examples
    ]
    assert [output.text for output in together] == [output.text for output in alone]
    for ours, single in zip(together, alone, strict=True):
        assert ours.log_probs == pytest.approx(single.log_probs, abs=1e-4)


def teacher_forced_log_probs(
    network: PaliGemmaPrefixLM, collator: Collator, example: Example, ids: tuple[int, ...]
) -> Any:
    """Return the log-probabilities of the tokens of an answer."""
    batch = collator.collate_train([TrainingSample(example, "0" * len(ids))])
    batch["input_ids"][0, -len(ids) - 1 : -1] = torch.tensor(ids)
    positions = loss_positions(batch.pop("labels"))
    with torch.no_grad():
        logits = network(**batch, logits_to_keep=positions).logits
    return (-token_losses(logits[: len(ids)], torch.tensor(ids))).tolist()


@pytest.mark.parametrize("grammar", [None, BOATS], ids=["free", "grammar"])
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_equal_teacher_forcing(
    family: str,
    beams: int,
    grammar: ObjectGrammar | None,
    tiny: Callable[[str], Path],
    examples: list[Example],
) -> None:
    processor = AutoProcessor.from_pretrained(tiny(family))
    network = PaliGemmaPrefixLM.from_pretrained(tiny(family)).eval()
    collator = Collator(processor)
    batch, grammars = collator.collate_prompts(examples), [grammar] * len(examples)
    generations = generate(
        network, processor.tokenizer, batch, 12, num_beams=beams, grammars=grammars
    )
    for example, output in zip(examples, generations, strict=True):
        assert output.token_ids
        expected = teacher_forced_log_probs(network, collator, example, output.token_ids)
        assert output.log_probs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_score_of_an_object_is_that_of_its_tokens_without_the_grammar(
    family: str, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny(family))
    network = PaliGemmaPrefixLM.from_pretrained(tiny(family)).eval()
    collator, task = Collator(processor), Detection(max_new_tokens=40)
    batch, grammars = (
        collator.collate_prompts(examples[:1]),
        [ObjectGrammar(("boat",), allow_empty=False)],
    )
    [output] = generate(network, processor.tokenizer, batch, 40, grammars=grammars)
    objects = task.parse(output.text, examples[0].size, output.confidence)
    assert isinstance(objects, tuple)
    expected = teacher_forced_log_probs(network, collator, examples[0], output.token_ids)
    length = len(processor.tokenizer("<loc0000>" * 4 + " boat", add_special_tokens=False).input_ids)
    mean = sum(expected[:length]) / length
    assert isinstance(objects[0], Instance)
    assert objects[0].score == pytest.approx(math.exp(mean), abs=1e-5)


@pytest.mark.parametrize("grammar", [None, BOATS], ids=["free", "grammar"])
@pytest.mark.parametrize("family", FAMILIES)
def test_beams_of_a_batch_equal_those_of_single_prompts(
    family: str, grammar: ObjectGrammar | None, tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny(family))
    network = PaliGemmaPrefixLM.from_pretrained(tiny(family))
    collator = Collator(processor)
    # One row has two images, which have to stay together.
    pair = replace(examples[3], images=examples[0].images + examples[1].images)
    rows = [*examples[:3], pair]

    def answers(some: list[Example]) -> list[str]:
        batch, grammars = collator.collate_prompts(some), [grammar] * len(some)
        generations = generate(
            network, processor.tokenizer, batch, 30, num_beams=3, grammars=grammars
        )
        return [output.text for output in generations]

    assert answers(rows) == [text for row in rows for text in answers([row])]


def test_each_prompt_of_a_batch_has_its_own_grammar(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny("paligemma2"))
    network = PaliGemmaPrefixLM.from_pretrained(tiny("paligemma2"))
    batch = Collator(processor).collate_prompts(examples[:3])
    grammars = [
        ObjectGrammar(("boat",), allow_empty=False),
        None,
        ObjectGrammar(("",), True, 1, allow_empty=False),
    ]
    labeled, free, masked = generate(network, processor.tokenizer, batch, 30, grammars=grammars)
    assert free.token_ids == generate(network, processor.tokenizer, batch, 30)[1].token_ids
    for output, form in (
        (labeled, r"(<loc\d{4}>){4} boat.*"),
        (masked, r"(<loc.{5}){4}(<seg.{4}){16}"),
    ):
        assert re.fullmatch(form, output.text)
        assert output.finished


def test_generation_restores_the_training_mode(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny("paligemma"))
    network = PaliGemmaPrefixLM.from_pretrained(tiny("paligemma")).train()
    generate(network, processor.tokenizer, Collator(processor).collate_prompts(examples[:1]), 2)
    assert network.training


def test_confidence_is_the_geometric_mean_over_the_tokens_of_a_span() -> None:
    half, quarter, certain = torch.tensor([0.5, 0.25, 1.0]).log().tolist()
    output = Generation("ab cd", (7, 8, 9), (1, 2, 5), (half, quarter, certain), finished=True)
    assert output.confidence(0, 2) == pytest.approx((0.5 * 0.25) ** 0.5)
    assert output.confidence(3, 5) == pytest.approx(1.0)
    assert output.confidence(1, 3) == pytest.approx(0.5)
