"""Answers to questions that bring their choices: the choice that is the likeliest answer.

All choices of a question are scored in one row, behind the image and prompt that they share. A
choice is as likely as its tokens and EOS together: their log-probabilities are summed and not
divided by their number, so that of `red` and `red boat` each counts as a whole answer.
"""

from collections.abc import Sequence
from typing import Any

import torch

from palitune.data.collator import Batch, Collator
from palitune.data.training_set import TrainingSample
from palitune.evaluation.prediction_records import PredictionRecord
from palitune.models.lm_head import IGNORE_INDEX
from palitune.models.modes import inference_mode
from palitune.records import Example
from palitune.tasks import Task


def collate_choices(collator: Collator, task: Task, examples: Sequence[Example]) -> Batch | None:
    """Make a row of each example with all its choices; None without examples."""
    options = [task.choice_suffixes(example) for example in examples]
    visits = [
        TrainingSample(example, first, other_suffixes=tuple(others))
        for example, (first, *others) in zip(examples, options, strict=True)
    ]
    return collator.collate_train(visits) if visits else None


def choice_log_probs(network: Any, batch: Batch) -> list[list[float]]:
    """Return the log-probability of every suffix of every row."""
    moved = {name: tensor.to(network.device) for name, tensor in batch.items()}
    with inference_mode(network):
        losses = network(**moved).loss.double()
    types = moved["token_type_ids"]
    row, column = torch.nonzero(moved["labels"] != IGNORE_INDEX, as_tuple=True)
    sums = losses.new_zeros(len(types), int(types.max()) + 1)
    sums.index_put_((row, types[row, column]), -losses, accumulate=True)
    counts = types.amax(dim=1).tolist()
    return [own[1 : count + 1] for own, count in zip(sums.tolist(), counts, strict=True)]


def pick_choices(
    network: Any, task: Task, examples: Sequence[Example], batch: Batch | None
) -> list[PredictionRecord]:
    """Answer each example by its likeliest choice; `batch` comes from `options_batch`."""
    if batch is None:
        return []
    answers = []
    for example, log_probs in zip(examples, choice_log_probs(network, batch), strict=True):
        shares = torch.tensor(log_probs).softmax(0).tolist()
        best = max(range(len(shares)), key=lambda number: log_probs[number])
        text = task.choice_suffixes(example)[best]
        value = task.parse(text, example.size)
        answers.append(PredictionRecord(text=text, value=value, confidence=shares[best]))
    return answers
