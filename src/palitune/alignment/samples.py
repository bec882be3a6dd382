"""`samples.jsonl`: what was sampled at a few moments of a run, for the report."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from palitune import processes
from palitune.alignment.scoring import Scored, to_json
from palitune.training.progress import forget_after

FILE = "samples.jsonl"
MOMENTS = 6
"""Of a run, evenly spaced, the first and the last step among them."""


class Samples(TrainerCallback):  # type: ignore[misc]
    """Writes the answers to some prompts of a step; `latest` gives those of the last one."""

    def __init__(
        self, folder: Path, shown: int, latest: Callable[[], Sequence[Sequence[Scored]]]
    ) -> None:
        self.file = folder / FILE
        self.shown = shown
        self.latest = latest

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if processes.is_first():
            forget_after(self.file, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if processes.is_first() and state.global_step in moments(state.max_steps):
            append(self.file, self.latest()[: self.shown], state.global_step)


def append(file: Path, groups: Sequence[Sequence[Scored]], step: int) -> None:
    """Write a line per prompt."""
    with file.open("a", encoding="utf-8") as opened:
        for group in groups:
            opened.write(json.dumps(to_json(group, step)) + "\n")


def moments(steps: int) -> set[int]:
    """Choose the steps whose answers are kept."""
    return {1 + round(number * (steps - 1) / (MOMENTS - 1)) for number in range(MOMENTS)}
