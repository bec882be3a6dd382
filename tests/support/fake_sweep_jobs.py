"""Fake jobs of a search: their metrics are computed from their settings, without training.

As a program this file runs a search and kills its own process at the fourth job.
"""

import json
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from palitune.cli.launch import launch
from palitune.config.recipes import RECIPE_CONFIGS
from palitune.sweeps import launch_sweep
from palitune.sweeps.runner import Outcome, Runner

SEARCH_ARGS = [
    "--multirun", "data=handwriting", "task=ocr", "model=tiny", "search=optuna",
    "search.metric=ocr/exact_match", "training.validation_split=validation",
]  # fmt: skip


class FakeSearchRunner:
    """Writes the metrics of a job; the job `crash_at` kills this process."""

    def __init__(self, crash_at: int = -1) -> None:
        self.crash_at = crash_at
        self.overrides_per_job: list[dict[str, str]] = []

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        if len(self.overrides_per_job) == self.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        values = dict(text.split("=", 1) for text in command if "=" in text)
        self.overrides_per_job.append(values)
        if values.get("adapter.rank") == "32":
            return 1, "palitune: boats.jsonl:3: no box"
        folder = Path(values["output_dir"].strip("'"))
        folder.mkdir(exist_ok=True)
        closeness = math.exp(-abs(math.log(float(values["training.learning_rate"]) / 5e-4)))
        metrics = {"ocr/exact_match": closeness, "ocr/character_error_rate": 1 - closeness}
        (folder / "metrics.json").write_text(json.dumps({"after": metrics}))
        return 0, ""

    def terminate(self) -> None: ...


def run_search(runner: Runner, *overrides: str, recipe: str = "finetune") -> int:
    """Search with a fake runner; return the exit code."""
    make_runner = launch_sweep.make_runner
    launch_sweep.make_runner = lambda settings, folder: runner
    argv = [*SEARCH_ARGS, *overrides]
    try:
        return launch(RECIPE_CONFIGS[recipe], lambda: lambda run: None, [], "palitune", argv)
    finally:
        launch_sweep.make_runner = make_runner


if __name__ == "__main__":
    sys.exit(run_search(FakeSearchRunner(crash_at=3), *sys.argv[1:]))
