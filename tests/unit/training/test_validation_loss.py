"""Perplexity is plain teacher forcing, independent of the batch and without side effects."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.training_set import TrainingSample
from palitune.models.config import Local
from palitune.models.loading import load
from palitune.records import Example
from palitune.training.validation_loss import (
    PeriodicEvalCallback,
    evaluate_perplexity,
    suffix_losses,
)

from support.logit_rows import LogitRows, chunks_of


@pytest.fixture(params=["paligemma", "paligemma2"])
def loaded(request: pytest.FixtureRequest, tiny: Callable[[str], Path]) -> tuple[Any, Collator]:
    folder = tiny(request.param)
    collator = Collator(AutoProcessor.from_pretrained(folder))
    return load(Local(path=str(folder))), collator


def by_hand(network: Any, collator: Collator, example: Example) -> float:
    """One row, every logit, torch's own cross entropy of suffix and EOS."""
    batch = collator.collate_train([TrainingSample(example, example.suffixes[0])])
    labels = batch.pop("labels")[0, 1:]
    with torch.no_grad():
        logits = network(**batch).logits[0, :-1]
    kept = labels != -100
    assert (
        kept.sum()
        == len(collator.tokenizer(example.suffixes[0], add_special_tokens=False).input_ids) + 1
    )
    return float(torch.nn.functional.cross_entropy(logits[kept], labels[kept]))


def test_the_losses_of_a_padded_batch_are_those_of_its_rows_alone(
    loaded: tuple[Any, Collator], examples: list[Example]
) -> None:
    network, collator = loaded
    batch = collator.collate_train(
        [TrainingSample(example, example.suffixes[0]) for example in examples]
    )
    alone = [by_hand(network, collator, example) for example in examples]
    assert suffix_losses(network, batch).tolist() == pytest.approx(alone, rel=1e-4)


def test_logits_of_a_few_positions_exist_at_a_time(
    loaded: tuple[Any, Collator], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, collator = loaded
    vocab_size = network.config.text_config.vocab_size
    batch = collator.collate_train(
        [TrainingSample(example, example.suffixes[0]) for example in examples]
    )
    expected = suffix_losses(network, batch).tolist()
    chunks_of(3, vocab_size, monkeypatch)
    with LogitRows(vocab_size) as rows:
        losses = suffix_losses(network, batch).tolist()
    assert rows.largest == 3
    assert losses == pytest.approx(expected, rel=1e-5)


def test_perplexity_is_the_exponential_of_the_mean_over_examples(
    loaded: tuple[Any, Collator], examples: list[Example]
) -> None:
    network, collator = loaded
    first: Any = SimpleNamespace(name="ocr", examples=examples)
    second: Any = SimpleNamespace(name="vqa", examples=examples[:1])
    network.train()
    metrics = evaluate_perplexity(
        network, collator, {"minival": [first, second]}, max_samples=3, batch_size=2
    )
    assert network.training
    network.eval()
    # Three of five, evenly spaced: the first, the second and the fourth.
    losses = [by_hand(network, collator, examples[index]) for index in (0, 1, 3)]
    assert metrics == pytest.approx(
        {
            "minival/loss": (sum(losses) + losses[0]) / 4,
            "minival/ocr/perplexity": math.exp(sum(losses) / 3),
            "minival/vqa/perplexity": math.exp(losses[0]),
        },
        rel=1e-4,
    )


@pytest.mark.parametrize(
    ("every", "steps"),
    [(2, [0, 2, 4, 5]), (0.5, [0, 3, 5]), (100, [0, 5]), (1, [0, 1, 2, 3, 4, 5])],
)
def test_the_callback_runs_before_the_first_step_at_intervals_and_at_the_end(
    every: float, steps: list[int]
) -> None:
    state = SimpleNamespace(global_step=0, max_steps=5)
    control = SimpleNamespace(should_evaluate=False, should_log=True)
    steps_called: list[int] = []
    callback = PeriodicEvalCallback(every, lambda: steps_called.append(state.global_step))
    callback.on_train_begin(None, state, control)
    for state.global_step in range(1, 6):
        callback.on_step_end(None, state, control)
    assert steps_called == steps


def test_a_step_with_an_evaluation_is_not_measured_twice() -> None:
    state = SimpleNamespace(global_step=5, max_steps=5)
    callback = PeriodicEvalCallback(1, lambda: pytest.fail("measured twice"))
    callback.on_step_end(None, state, SimpleNamespace(should_evaluate=True))
    callback.on_train_begin(None, state, SimpleNamespace(should_evaluate=False))
