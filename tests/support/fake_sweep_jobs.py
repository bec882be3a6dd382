"""Jobs of a search that train nothing: what they are judged by is arithmetic on their settings.

As a program it searches, and kills itself in place of its fourth job.
"""

import json
import math
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from palitune.cli.launch import launch
from palitune.config.runners import Outcome, Runner, RunnerConfig

SEARCH_ARGS = [
    "--multirun", "data=handwriting", "task=ocr", "model=tiny", "search=optuna",
    "search.metric=ocr/exact_match", "training.validation_split=validation",
]  # fmt: skip


class FakeSearchRunner:
    """Writes the metrics of a job at once; the job `fatal` ends this very process."""

    def __init__(self, crash_at: int = -1) -> None:
        self.crash_at = crash_at
        self.overrides_per_job: list[dict[str, str]] = []

    def run(self, command: Sequence[str], resume_args: Sequence[str], log_file: Path) -> Outcome:
        if len(self.overrides_per_job) == self.crash_at:
            os.kill(os.getpid(), signal.SIGKILL)
        told = dict(text.split("=", 1) for text in command)
        self.overrides_per_job.append(told)
        if told.get("adapter.rank") == "32":
            return 1, "palitune: boats.jsonl:3: no box"
        folder = Path(told["output_dir"].strip("'"))
        folder.mkdir(exist_ok=True)
        near = math.exp(-abs(math.log(float(told["training.learning_rate"]) / 5e-4)))
        metrics = {"ocr/exact_match": near, "ocr/character_error_rate": 1 - near}
        (folder / "metrics.json").write_text(json.dumps({"after": metrics}))
        return 0, ""

    def terminate(self) -> None: ...


def run_search(runner: Runner, *overrides: str, recipe: str = "finetune") -> int:
    """Search with a runner in the place of processes; return the exit code."""
    before = RunnerConfig.runner
    RunnerConfig.runner = lambda self, folder: runner  # type: ignore[method-assign]
    try:
        return launch(recipe, lambda: lambda run: None, [], "palitune", [*SEARCH_ARGS, *overrides])
    finally:
        RunnerConfig.runner = before  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(run_search(FakeSearchRunner(crash_at=3), *sys.argv[1:]))
