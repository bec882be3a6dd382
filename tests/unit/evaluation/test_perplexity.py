"""The log-likelihood of references equals the stock model's, summed over suffix and EOS."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from palitune.data.collator import Collator
from palitune.evaluation.perplexity import (
    Perplexity,
    reference_batches,
    reference_likelihoods,
)
from palitune.models.config import Local
from palitune.models.loading import load, load_processor
from palitune.records import Example, Likelihood

from support.logit_rows import LogitRows, chunks_of


def test_perplexity_gives_every_token_the_same_weight() -> None:
    metric = Perplexity()
    assert metric.update(Likelihood(-6.0, 3)) == {"log_prob": -2}
    metric.update(Likelihood(-1.0, 1))
    assert metric.compute()["perplexity"] == pytest.approx(math.exp(7 / 4))
    first, doubled, empty = metric.compute_weighted(np.array([[1.0, 0], [2, 2], [0, 0]]))[
        "perplexity"
    ]
    assert (first, doubled) == pytest.approx((math.exp(2), math.exp(7 / 4)))
    assert math.isnan(empty)
    assert math.isnan(Perplexity().compute()["perplexity"])


def test_likelihoods_equal_those_of_a_plain_forward_pass_over_each_reference(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    network, collator = load(model), Collator(load_processor(model))
    batches = reference_batches(collator, examples)
    assert [len(batch["labels"]) for batch in batches] == [5, 1]  # one has two references
    batched = reference_likelihoods(network, examples, batches)
    single = [
        reference_likelihoods(network, [e], reference_batches(collator, [e]))[0] for e in examples
    ]
    for likelihood, other, example in zip(batched, single, examples, strict=True):
        assert likelihood.num_tokens == other.num_tokens
        assert likelihood.log_prob == pytest.approx(other.log_prob, rel=1e-4)
        total, num_tokens = 0.0, 0
        for batch in reference_batches(collator, [example]):
            labels = batch.pop("labels")
            with torch.inference_mode():
                logits = network(**batch).logits[:, :-1]
            is_target = labels[:, 1:] != -100
            log_probs = logits.log_softmax(-1)[is_target].gather(
                1, labels[:, 1:][is_target][:, None]
            )
            total, num_tokens = total + float(log_probs.sum()), num_tokens + int(is_target.sum())
        assert likelihood == (pytest.approx(total, rel=1e-4), num_tokens)


def test_logits_of_a_few_positions_exist_at_a_time(
    tiny: Callable[[str], Path], examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    network, collator = load(model), Collator(load_processor(model))
    vocab_size = network.config.text_config.vocab_size
    batches = reference_batches(collator, examples)
    expected = reference_likelihoods(network, examples, batches)
    chunks_of(3, vocab_size, monkeypatch)
    with LogitRows(vocab_size) as rows:
        likelihoods = reference_likelihoods(network, examples, batches)
    assert rows.largest == 3
    for likelihood, whole in zip(likelihoods, expected, strict=True):
        assert likelihood == (pytest.approx(whole.log_prob, rel=1e-5), whole.num_tokens)
