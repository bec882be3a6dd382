"""Teacher-forced loss and perplexity on samples of the training and the validation data.

They need no generation, so they can be computed often. As in big_vision's `perplexity` evaluator,
every token of the suffix, EOS included, is predicted from the true tokens before it; the loss is
the mean over the tokens of an example, then over examples. Minitrain and minival are samples of the
training and of the validation data: overfitting shows as a falling minitrain and a rising minival
loss.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from palitune.data.collator import Batch, Collator
from palitune.data.dataset import TaskDataset
from palitune.data.training_set import TrainingSample
from palitune.models.lm_head import IGNORE_INDEX
from palitune.models.modes import training_mode
from palitune.training.config import LossReduction
from palitune.training.loss import token_weights
from palitune.training.sequence_lengths import evenly_spaced

MINITRAIN, MINIVAL = "minitrain", "minival"


@torch.no_grad()
def suffix_losses(network: Any, batch: Batch) -> torch.Tensor:
    """Return each row's mean negative log-likelihood of suffix and EOS, (batch,) float32.

    As in training, the logits of a few dozen positions exist at a time.
    """
    batch = {name: tensor.to(network.device) for name, tensor in batch.items()}
    labels = batch["labels"]
    losses: torch.Tensor = network(**batch).loss
    weighted = losses * token_weights(labels, LossReduction.example)
    rows = (labels != IGNORE_INDEX).nonzero()[:, 0]
    return losses.new_zeros(len(labels)).index_add(0, rows, weighted)


def evaluate_perplexity(
    network: Any,
    collator: Collator,
    splits: Mapping[str, Sequence[TaskDataset]],
    *,
    max_samples: int,
    batch_size: int,
) -> dict[str, float]:
    """Return `SPLIT/loss` and `SPLIT/COMPONENT/perplexity` of each split.

    Args:
        network: Network to evaluate; its training mode is restored afterwards.
        collator: Collator of the training.
        splits: Components of each split by its name, e.g. "minival".
        max_samples: Examples per component, evenly spaced. Only their first target is used.
        batch_size: Examples per forward pass.
    """
    metrics: dict[str, float] = {}
    with training_mode(network, False):
        for split, datasets in splits.items():
            losses = {
                dataset.name: torch.cat(
                    [
                        suffix_losses(network, batch)
                        for batch in _batches(dataset, collator, max_samples, batch_size)
                    ]
                )
                for dataset in datasets
            }
            metrics[f"{split}/loss"] = float(torch.cat(list(losses.values())).mean())
            for component, values in losses.items():
                perplexity = math.exp(min(float(values.mean()), 700.0))
                metrics[f"{split}/{component}/perplexity"] = perplexity
    return metrics


def _batches(
    dataset: TaskDataset, collator: Collator, max_samples: int, batch_size: int
) -> Iterator[Batch]:
    indices = evenly_spaced(len(dataset.examples), max_samples)
    samples = [
        TrainingSample(example, example.suffixes[0])
        for example in map(dataset.examples.__getitem__, indices)
    ]
    for start in range(0, len(samples), batch_size):
        yield collator.collate_train(samples[start : start + batch_size])


class PeriodicEvalCallback(TrainerCallback):  # type: ignore[misc]
    """Call a function before the first step, at regular steps, and at the end."""

    def __init__(self, eval_steps: float, eval_fn: Callable[[], None]) -> None:
        self.eval_steps = eval_steps
        """Optimizer steps between calls; below 1 a share of the run."""
        self.eval_fn = eval_fn

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.eval_fn()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        every = self.eval_steps
        every = math.ceil(every * state.max_steps) if every < 1 else int(every)
        is_due = state.global_step % every == 0 or state.global_step == state.max_steps
        if is_due and not control.should_evaluate:  # `evaluate` includes these metrics
            # Trainer.log resets this flag although the loss of the step is not logged yet.
            should_log = control.should_log
            self.eval_fn()
            control.should_log = should_log
