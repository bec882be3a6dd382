"""How probable a model finds the references: teacher-forced, suffix and EOS, prompt given.

The log-probability of an example is the mean over the tokens of all its references. `perplexity`
is that of the whole set: e to the negative log-probability per token, every token weighing the
same; it is 1 where the model is sure of every token. Models with other tokens cannot be compared
by it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from palitune.metrics.base import FloatArray, ResampleCounts, ratio
from palitune.records import Example


class Likelihood(NamedTuple):
    """The references of one example under a model."""

    log_prob: float
    """Sum over the tokens."""
    tokens: int


class Perplexity:
    """Gather likelihoods into a number, as a metric does."""

    def __init__(self) -> None:
        self.likelihoods: list[Likelihood] = []

    def update(self, likelihood: Likelihood) -> dict[str, float]:
        """Take in one example and return its log-probability per token."""
        self.likelihoods.append(likelihood)
        return {"log_prob": likelihood.log_prob / likelihood.tokens}

    def compute(self) -> dict[str, float]:
        numbers = self.compute_weighted(np.ones((1, len(self.likelihoods))))
        return {name: float(value[0]) for name, value in numbers.items()}

    def compute_weighted(self, counts: ResampleCounts) -> dict[str, FloatArray]:
        log_probs, tokens = (counts @ np.array(self.likelihoods, float).reshape(-1, 2)).T
        perplexity: FloatArray = np.exp(-ratio(log_probs, tokens))
        return {"perplexity": perplexity}


def reference_batches(collator: Any, examples: Sequence[Example]) -> list[Any]:
    """Make the batches of every reference of some examples; as many rows in each as examples."""
    from palitune.data.training_set import TrainingSample

    visits = [
        TrainingSample(example, suffix) for example in examples for suffix in example.suffixes
    ]
    starts = range(0, len(visits), len(examples))
    return [collator.collate_train(visits[start : start + len(examples)]) for start in starts]


def reference_likelihoods(
    network: Any, examples: Sequence[Example], batches: Iterable[Any]
) -> list[Likelihood]:
    """Return the likelihood of each example; `batches` come from `reference_batches`."""
    rows = [row for batch in batches for row in _row_log_probs(network, batch)]
    found = []
    for example in examples:
        own, rows = rows[: len(example.suffixes)], rows[len(example.suffixes) :]
        log_probs, tokens = zip(*own, strict=True)
        found.append(Likelihood(sum(log_probs), sum(tokens)))
    return found


def _row_log_probs(network: Any, batch: dict[str, Any]) -> list[tuple[float, int]]:
    """Return the log-probability and the number of the labels of every row."""
    import torch

    from palitune.models.lm_head import loss_positions, teacher_forced_logits, token_losses
    from palitune.models.modes import inference_mode

    with inference_mode(network):
        losses = token_losses(*teacher_forced_logits(network, batch)).double().cpu()
    of_rows = torch.split(losses, loss_positions(batch["labels"]).sum(dim=1).tolist())
    return [(-float(one.sum()), len(one)) for one in of_rows]
