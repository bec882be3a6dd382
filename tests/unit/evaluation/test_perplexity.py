"""The likelihood of references is the loss that training takes, summed instead of averaged."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from palitune.data.collator import Collator
from palitune.evaluation.perplexity import (
    Likelihood,
    Perplexity,
    reference_batches,
    reference_likelihoods,
)
from palitune.models.config import Local
from palitune.models.loading import load, load_processor
from palitune.records import Example


def test_the_perplexity_of_a_set_weighs_tokens_alike() -> None:
    measured = Perplexity()
    assert measured.update(Likelihood(-6.0, 3)) == {"log_prob": -2}
    measured.update(Likelihood(-1.0, 1))
    assert measured.compute()["perplexity"] == pytest.approx(math.exp(7 / 4))
    first, twice, none = measured.compute_weighted(np.array([[1.0, 0], [2, 2], [0, 0]]))[
        "perplexity"
    ]
    assert (first, twice) == pytest.approx((math.exp(2), math.exp(7 / 4)))
    assert math.isnan(none)
    assert math.isnan(Perplexity().compute()["perplexity"])


def test_likelihoods_are_those_of_the_stock_forward_pass_over_each_reference(
    tiny: Callable[[str], Path], examples: list[Example]
) -> None:
    model = Local(path=str(tiny("paligemma2")))
    network, collator = load(model), Collator(load_processor(model))
    batches = reference_batches(collator, examples)
    assert [len(batch["labels"]) for batch in batches] == [5, 1]  # one has two references
    found = reference_likelihoods(network, examples, batches)
    alone = [
        reference_likelihoods(network, [e], reference_batches(collator, [e]))[0] for e in examples
    ]
    for one, other, example in zip(found, alone, examples, strict=True):
        assert one.tokens == other.tokens
        assert one.log_prob == pytest.approx(other.log_prob, rel=1e-4)
        total, tokens = 0.0, 0
        for batch in reference_batches(collator, [example]):
            labels = batch.pop("labels")
            with torch.inference_mode():
                logits = network(**batch).logits[:, :-1]
            kept = labels[:, 1:] != -100
            chosen = logits.log_softmax(-1)[kept].gather(1, labels[:, 1:][kept][:, None])
            total, tokens = total + float(chosen.sum()), tokens + int(kept.sum())
        assert (one.log_prob, one.tokens) == (pytest.approx(total, rel=1e-4), tokens)
