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

from palitune.jobs import Jobs, Outcome, Runner
from palitune.launching import launch

SEARCH = [
    "--multirun", "data=handwriting", "task=ocr", "model=tiny", "search=lora",
    "search.metric=ocr/exact_match", "training.validation_split=validation",
]  # fmt: skip


class Judged:
    """Writes the metrics of a job at once; the job `fatal` ends this very process."""

    def __init__(self, fatal: int = -1) -> None:
        self.fatal = fatal
        self.told: list[dict[str, str]] = []

    def run(self, command: Sequence[str], again: Sequence[str], log: Path) -> Outcome:
        if len(self.told) == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        told = dict(text.split("=", 1) for text in command)
        self.told.append(told)
        if told.get("adapter.rank") == "32":
            return 1, "palitune: boats.jsonl:3: no box"
        folder = Path(told["output_dir"].strip("'"))
        folder.mkdir(exist_ok=True)
        near = math.exp(-abs(math.log(float(told["training.learning_rate"]) / 5e-4)))
        metrics = {"ocr/exact_match": near, "ocr/character_error_rate": 1 - near}
        (folder / "metrics.json").write_text(json.dumps({"after": metrics}))
        return 0, ""

    def end(self) -> None: ...


def search(runner: Runner, *told: str, recipe: str = "finetune") -> int:
    """Search with a runner in the place of processes; return the exit code."""
    before = Jobs.runner
    Jobs.runner = lambda self, folder: runner  # type: ignore[method-assign]
    try:
        return launch(recipe, lambda: lambda run: None, [], "palitune", [*SEARCH, *told])
    finally:
        Jobs.runner = before  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(search(Judged(fatal=3), *sys.argv[1:]))
