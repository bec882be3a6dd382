"""The learning rate of the first step is above 0."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from palitune.training.state.resume import CheckpointingTrainer


def schedule(tmp_path: Any, kind: str, steps: int) -> Any:
    arguments = TrainingArguments(
        output_dir=str(tmp_path), learning_rate=1.0, warmup_steps=0.05, lr_scheduler_type=kind,
        max_steps=steps, report_to=[], use_cpu=True,
    )  # fmt: skip
    trainer = CheckpointingTrainer(model=nn.Linear(1, 1), args=arguments)
    optimizer = torch.optim.SGD(trainer.model.parameters(), lr=1.0)
    return trainer.create_scheduler(steps, optimizer), optimizer


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant_with_warmup"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 1), (40, 2), (400, 20)])
def test_the_first_step_learns(tmp_path: Any, kind: str, steps: int, warmup: int) -> None:
    scheduler, optimizer = schedule(tmp_path, kind, steps)
    rates = []
    for _ in range(min(steps, warmup + 1)):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[0] == pytest.approx(1 / (warmup + 1))
    assert rates == sorted(rates)
    assert rates[1:] == pytest.approx([n / warmup for n in range(1, len(rates))])
