"""How well the network foresees the right answers: no generation, so it can be measured often.

As big_vision's `perplexity` evaluator: every token of the suffix, EOS included, is predicted from
the true ones before it; the mean over the tokens of an example, then over examples, is the loss.
Minitrain and minival are slices of the data that is trained on and of the data that is not: where
the first goes on falling and the second rises, the network learns its examples by heart.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from transformers import TrainerCallback

from palitune.data.collator import Batch, Collator
from palitune.data.dataset import TaskDataset
from palitune.data.training_set import TrainingSample
from palitune.models.lm_head import loss_positions, teacher_forced_logits, token_losses
from palitune.models.modes import training_mode
from palitune.training.config import LossReduction
from palitune.training.loss import token_weights
from palitune.training.sequence_lengths import evenly_spaced

MINITRAIN, MINIVAL = "minitrain", "minival"

PerplexitySlices = Mapping[str, list[TaskDataset]]
"""The parts that each slice is taken out of, by its name."""


@torch.no_grad()
def suffix_losses(network: Any, batch: Batch) -> torch.Tensor:
    """Return each row's mean negative log-likelihood of suffix and EOS, (batch,) float32."""
    batch = {name: tensor.to(network.device) for name, tensor in batch.items()}
    labels = batch["labels"]
    losses = token_losses(*teacher_forced_logits(network, batch))
    shares = losses * token_weights(labels, LossReduction.example)
    rows = loss_positions(labels).nonzero()[:, 0]
    return losses.new_zeros(len(labels)).index_add(0, rows, shares)


def evaluate_perplexity(
    network: Any, collator: Collator, slices: PerplexitySlices, *, limit: int, batch_size: int
) -> dict[str, float]:
    """Return `minitrain/loss`, `minitrain/PART/perplexity` and the same of the other slices.

    `limit` is in examples per part; of several targets the first is taken.
    """
    numbers: dict[str, float] = {}
    with training_mode(network, False):
        for name, parts in slices.items():
            losses = {
                part.name: torch.cat(
                    [
                        suffix_losses(network, batch)
                        for batch in _batches(part, collator, limit, batch_size)
                    ]
                )
                for part in parts
            }
            numbers[f"{name}/loss"] = float(torch.cat(list(losses.values())).mean())
            for part_name, values in losses.items():
                numbers[f"{name}/{part_name}/perplexity"] = math.exp(
                    min(float(values.mean()), 700.0)
                )
    return numbers


def _batches(dataset: TaskDataset, collator: Collator, limit: int, size: int) -> Iterator[Batch]:
    examples = [dataset.examples[index] for index in evenly_spaced(len(dataset.examples), limit)]
    for start in range(0, len(examples), size):
        chosen = examples[start : start + size]
        yield collator.collate_train(
            [TrainingSample(example, example.suffixes[0]) for example in chosen]
        )


class PeriodicEvalCallback(TrainerCallback):  # type: ignore[misc]
    """Have something measured before the first step, every so often, and at the end."""

    def __init__(self, eval_steps: float, eval_fn: Callable[[], None]) -> None:
        self.eval_steps = eval_steps
        """In optimizer steps; below 1 a share of the run."""
        self.eval_fn = eval_fn

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self.eval_fn()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        every = (
            math.ceil(self.eval_steps * state.max_steps)
            if self.eval_steps < 1
            else int(self.eval_steps)
        )
        due = state.global_step % every == 0 or state.global_step == state.max_steps
        if due and not control.should_evaluate:  # an evaluation at this step measures it, too
            # Logging takes the loss of the step for logged, which it is not yet.
            should_log = control.should_log
            self.eval_fn()
            control.should_log = should_log
