"""Perplexity of the references under teacher forcing, given image and prompt.

The log-probability of an example is the mean over the tokens (suffix and EOS) of all its
references. The perplexity of a dataset is exp(-mean log-probability per token), where every token
has the same weight. Models with different tokenizers cannot be compared by perplexity.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from palitune.metrics.base import FloatArray, ResampleCounts, StatisticsMetric, ratio
from palitune.records import Example, Likelihood


class Perplexity(StatisticsMetric):
    """Perplexity of a dataset, from the log-probability and number of tokens of each example."""

    num_statistics: ClassVar[int] = 2

    def update(self, likelihood: Likelihood) -> dict[str, float]:
        """Add an example and return its log-probability per token."""
        self.statistics.append(likelihood)
        return {"log_prob": likelihood.log_prob / likelihood.num_tokens}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        log_probs, num_tokens = self.sums(counts)
        perplexity: FloatArray = np.exp(-ratio(log_probs, num_tokens))
        return {"perplexity": perplexity}


def reference_batches(collator: Any, examples: Sequence[Example]) -> list[Any]:
    """Return batches of all references of the examples, with at most `len(examples)` rows each."""
    from palitune.data.training_set import TrainingSample

    samples = [
        TrainingSample(example, suffix) for example in examples for suffix in example.suffixes
    ]
    starts = range(0, len(samples), len(examples))
    return [collator.collate_train(samples[start : start + len(examples)]) for start in starts]


def reference_likelihoods(
    network: Any, examples: Sequence[Example], batches: Iterable[Any]
) -> list[Likelihood]:
    """Return the log-likelihood of each example; `batches` come from `reference_batches`."""
    rows = iter([row for batch in batches for row in _row_log_probs(network, batch)])
    likelihoods = []
    for example in examples:
        log_probs, num_tokens = zip(*islice(rows, len(example.suffixes)), strict=True)
        likelihoods.append(Likelihood(sum(log_probs), sum(num_tokens)))
    return likelihoods


def _row_log_probs(network: Any, batch: dict[str, Any]) -> list[tuple[float, int]]:
    """Return the log-probability and the number of labels of every row.

    As in training, the logits of a few dozen positions exist at a time.
    """
    import torch

    from palitune.models.lm_head import IGNORE_INDEX
    from palitune.models.modes import inference_mode

    inputs = {name: tensor.to(network.device) for name, tensor in batch.items()}
    with inference_mode(network):
        losses = network(**inputs).loss.double().cpu()
    losses_by_row = torch.split(losses, (batch["labels"] != IGNORE_INDEX).sum(dim=1).tolist())
    return [(-float(row.sum()), len(row)) for row in losses_by_row]
