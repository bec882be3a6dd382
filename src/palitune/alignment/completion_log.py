"""`samples.jsonl`: generations at a few steps of a run, for the report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from palitune.alignment.reward_scoring import CompletionGroup, group_to_json
from palitune.codec.parsing import format_json
from palitune.distributed import collectives
from palitune.training.callbacks import truncate_history

SAMPLES_FILE = "samples.jsonl"
NUM_LOGGED_STEPS = 6
"""Evenly spaced over the run, including the first and the last step."""


class CompletionLogCallback(TrainerCallback):  # type: ignore[misc]
    """Append the generations for the first prompts of a step to `samples.jsonl`."""

    def __init__(
        self,
        folder: Path,
        num_prompts: int,
        latest_completions: Callable[[], Sequence[CompletionGroup]],
    ) -> None:
        self.file = folder / SAMPLES_FILE
        self.num_prompts = num_prompts
        self.latest_completions = latest_completions

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if collectives.is_main_process():
            truncate_history(self.file, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if collectives.is_main_process() and state.global_step in steps_to_log(state.max_steps):
            groups = self.latest_completions()[: self.num_prompts]
            append_completions(self.file, groups, state.global_step)


def append_completions(path: Path, groups: Sequence[CompletionGroup], step: int) -> None:
    """Append one line per prompt."""
    with path.open("a", encoding="utf-8") as file:
        for group in groups:
            file.write(format_json(group_to_json(group, step)) + "\n")


def steps_to_log(max_steps: int) -> set[int]:
    """Return the steps whose generations are logged."""
    last = NUM_LOGGED_STEPS - 1
    return {1 + round(index * (max_steps - 1) / last) for index in range(NUM_LOGGED_STEPS)}
