"""Multiple-choice answers by log-likelihood: the most likely choice.

All choices of a question share one row with its image and prompt. The log-probability of a choice
is the sum over its tokens and EOS, without length normalization.
"""

from collections.abc import Sequence
from typing import Any

import torch

from palitune.data.collator import Batch, Collator
from palitune.data.training_set import TrainingSample
from palitune.models.lm_head import IGNORE_INDEX
from palitune.models.modes import inference_mode
from palitune.records import Example, Prediction
from palitune.tasks import Task


def collate_choices(collator: Collator, task: Task, examples: Sequence[Example]) -> Batch | None:
    """Return a batch with one row per example that holds all its choices; None without examples."""
    choices = [task.choice_suffixes(example) for example in examples]
    samples = [
        TrainingSample(example, first, other_suffixes=tuple(others))
        for example, (first, *others) in zip(examples, choices, strict=True)
    ]
    return collator.collate_train(samples) if samples else None


def choice_log_probs(network: Any, batch: Batch) -> list[list[float]]:
    """Return the log-probability of every suffix of every row."""
    inputs = {name: tensor.to(network.device) for name, tensor in batch.items()}
    with inference_mode(network):
        losses = network(**inputs).loss.double()
    types = inputs["token_type_ids"]
    row, column = torch.nonzero(inputs["labels"] != IGNORE_INDEX, as_tuple=True)
    sums = losses.new_zeros(len(types), int(types.max()) + 1)
    sums.index_put_((row, types[row, column]), -losses, accumulate=True)
    num_suffixes = types.amax(dim=1).tolist()
    return [
        sums_of_row[1 : n + 1] for sums_of_row, n in zip(sums.tolist(), num_suffixes, strict=True)
    ]


def pick_choices(
    network: Any, task: Task, examples: Sequence[Example], batch: Batch | None
) -> list[Prediction]:
    """Predict the most likely choice of each example.

    Args:
        network: Model with or without adapter.
        task: Task of the examples.
        examples: Examples with choices.
        batch: The batch of `collate_choices`; None without examples.
    """
    if batch is None:
        return []
    predictions = []
    for example, log_probs in zip(examples, choice_log_probs(network, batch), strict=True):
        probabilities = torch.tensor(log_probs).softmax(0).tolist()
        best = max(range(len(log_probs)), key=log_probs.__getitem__)
        text = task.choice_suffixes(example)[best]
        predictions.append(
            Prediction(
                id=example.id,
                text=text,
                value=task.parse(text, example.size),
                confidence=probabilities[best],
            )
        )
    return predictions
