"""Answers of a batch that prompts join and leave equal those of the prompts alone."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

from palitune.codec.grammar import ObjectGrammar
from palitune.data.collator import Collator
from palitune.errors import ModelError
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.generation import kv_cache, running_batch
from palitune.models.generation.generate import Generation, generate
from palitune.models.generation.running_batch import Prompt, RunningBatch
from palitune.models.loading import load
from palitune.records import Example
from unit.models.generation.test_kv_cache import randomized, with_window

LIMITS = (1, 3, 9, 14, 20)
GRAMMAR = ObjectGrammar(("boat", "buoy", "boat house"))


@pytest.mark.parametrize(("family", "window"), [("paligemma", None), ("paligemma2", 8)])
def test_any_order_of_joining_and_leaving_gives_the_answers_of_prompts_alone(
    family: str,
    window: int | None,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = with_window(tiny(family), tmp_path, window) if window else tiny(family)
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    collator = Collator(AutoProcessor.from_pretrained(folder))
    network = randomized(Lora(rank=4).apply_to(load(Local(path=str(folder)))))
    for module in (kv_cache, running_batch):
        monkeypatch.setattr(module, "BLOCK_SIZE", 4)
    rng = random.Random(5)
    questions = [
        (
            replace(example, prefix=example.prefix + " ; boat" * rng.randrange(4)),
            Prompt(limit, GRAMMAR if limit > 12 and rng.random() < 0.5 else None),
        )
        for example in examples
        for limit in LIMITS
    ]
    rng.shuffle(questions)
    expected = [
        generate(
            network,
            tokenizer,
            collator.collate_prompts([example]),
            prompt.max_new_tokens,
            grammars=[prompt.grammar],
        )[0]
        for example, prompt in questions
    ]
    answers: dict[int, Generation] = {}
    tokens: dict[int, list[int]] = {index: [] for index in range(len(questions))}
    waiting, running, given_up, most = list(range(len(questions))), {}, 0, 0
    with RunningBatch(network, tokenizer) as batch:
        while waiting or running:
            joining, waiting = waiting[: (count := rng.randrange(3))], waiting[count:]
            for number in [n for n in running if running and rng.random() < 0.02]:
                batch.leave(number)
                given_up += 1
                del running[number]
            if joining:
                prompts = collator.collate_prompts([questions[index][0] for index in joining])
                numbers = batch.join(prompts, [questions[index][1] for index in joining])
                assert not running.keys() & set(numbers)
                running |= dict(zip(numbers, joining, strict=True))
            if not running:
                continue
            step = batch.step()
            most = max(most, len(running))
            assert step.tokens.keys() == running.keys()
            for number, token in step.tokens.items():
                tokens[running[number]].append(token)
            for number, generation in step.finished.items():
                answers[running.pop(number)] = generation
    assert most > 4
    assert given_up > 0
    assert len(answers) == len(questions) - given_up
    for index, answer in answers.items():
        alone = expected[index]
        assert (answer.token_ids, answer.text, answer.finished) == (
            alone.token_ids,
            alone.text,
            alone.finished,
        )
        assert answer.log_probs == pytest.approx(alone.log_probs, abs=5e-4)
        assert tuple(tokens[index][: len(alone.token_ids)]) == alone.token_ids


def test_a_long_running_batch_frees_the_slots_of_answers_that_left(
    tiny: Callable[[str], Path], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (kv_cache, running_batch):
        monkeypatch.setattr(module, "BLOCK_SIZE", 4)
    processor = AutoProcessor.from_pretrained(tiny("paligemma"))
    network = load(Local(path=str(tiny("paligemma"))))
    prompts = Collator(processor).collate_prompts(examples[:1])
    sizes = []
    with RunningBatch(network, processor.tokenizer) as batch:
        batch.join(prompts, [Prompt(5)])
        for step in range(60):
            if step % 3 == 2:
                batch.join(prompts, [Prompt(5)])
            batch.step()
            assert batch._cache is not None
            sizes.append(batch._cache.generated_kv[0].shape[3] if batch._cache.generated_kv else 0)
    assert max(sizes) <= 12
    assert len(batch._search.limits) <= 3


def test_a_prompt_that_cannot_be_answered_changes_nothing_for_the_others(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    processor = AutoProcessor.from_pretrained(tiny("paligemma"))
    network = load(Local(path=str(tiny("paligemma"))))
    prompts = Collator(processor).collate_prompts(examples[:1])
    [alone] = generate(network, processor.tokenizer, prompts, 6)
    with RunningBatch(network, processor.tokenizer) as batch:
        [number] = batch.join(prompts, [Prompt(6)])
        step = batch.step()
        with pytest.raises(ModelError, match="max_new_tokens must be at least"):
            batch.join(prompts, [Prompt(2, GRAMMAR)])
        while number not in step.finished:
            step = batch.step()
        assert step.finished[number].token_ids == alone.token_ids
    assert torch.is_grad_enabled()
