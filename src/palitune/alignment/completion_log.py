"""`samples.jsonl`: what was sampled at a few moments of a run, for the report."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from palitune.alignment.reward_scoring import ScoredCompletion, group_to_json
from palitune.distributed import collectives
from palitune.training.callbacks import truncate_history

SAMPLES_FILE = "samples.jsonl"
NUM_LOGGED_STEPS = 6
"""Of a run, evenly spaced, the first and the last step among them."""


class CompletionLogCallback(TrainerCallback):  # type: ignore[misc]
    """Writes the answers to some prompts of a step; `latest` gives those of the last one."""

    def __init__(
        self,
        folder: Path,
        num_prompts: int,
        latest_completions: Callable[[], Sequence[Sequence[ScoredCompletion]]],
    ) -> None:
        self.file = folder / SAMPLES_FILE
        self.num_prompts = num_prompts
        self.latest_completions = latest_completions

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if collectives.is_main_process():
            truncate_history(self.file, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if collectives.is_main_process() and state.global_step in steps_to_log(state.max_steps):
            append_completions(
                self.file, self.latest_completions()[: self.num_prompts], state.global_step
            )


def append_completions(file: Path, groups: Sequence[Sequence[ScoredCompletion]], step: int) -> None:
    """Write a line per prompt."""
    with file.open("a", encoding="utf-8") as opened:
        for group in groups:
            opened.write(json.dumps(group_to_json(group, step)) + "\n")


def steps_to_log(max_steps: int) -> set[int]:
    """Choose the steps whose answers are kept."""
    return {
        1 + round(number * (max_steps - 1) / (NUM_LOGGED_STEPS - 1))
        for number in range(NUM_LOGGED_STEPS)
    }
