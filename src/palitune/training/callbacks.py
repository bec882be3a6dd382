"""Progress bar and `history.jsonl` of a training."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rich.progress
from transformers import TrainerCallback

from palitune.errors import TrainingError
from palitune.paths import write_atomically
from palitune.training.early_stopping import EVAL_PREFIX
from palitune.training.validation_loss import MINITRAIN, MINIVAL

EvalFn = Callable[[], dict[str, float]]
"""Computes metrics of the network by name: `component/metric`, or `minival/loss` and the like."""

LogFn = Callable[[dict[str, float], int], None]
"""Receives the entries of the history with their steps."""

ALIGNMENT_PREFIX = "align"
"""First component of the names of metrics on sampled generations and preference pairs."""
_SLICE_PREFIXES = (f"{MINITRAIN}/", f"{MINIVAL}/", f"{ALIGNMENT_PREFIX}/")
_LOGGED_KEYS = {"loss", "learning_rate", "grad_norm", "epoch"}


class RichProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Show loss, metrics and remaining time; append every log entry to a file."""

    def __init__(self, history_path: Path, log_fn: LogFn | None = None) -> None:
        self.history_path = history_path
        self.log_fn = log_fn
        self.bar: rich.progress.Progress | None = None
        self.task_id: rich.progress.TaskID | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            truncate_history(self.history_path, state.global_step)
            self.bar = rich.progress.Progress(
                rich.progress.TextColumn("training"),
                rich.progress.BarColumn(),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TextColumn("left"),
                rich.progress.TimeRemainingColumn(),
                rich.progress.TextColumn("{task.fields[status]}"),
                refresh_per_second=2,
            )
            self.task_id = self.bar.add_task(
                "training", total=state.max_steps, completed=state.global_step, status=""
            )
            self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None and self.task_id is not None:
            self.bar.update(self.task_id, completed=state.global_step)

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        entry = _rename_metrics(logs or {})
        if not math.isfinite(entry.get("loss", 0.0)):
            raise TrainingError(
                f"training diverged at step {state.global_step} (loss {entry['loss']}); lower "
                "training.learning_rate or check the data"
            )
        if not state.is_world_process_zero or not entry.keys() - {"epoch"}:
            return
        with self.history_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **entry}) + "\n")
        if self.log_fn is not None:
            self.log_fn(entry, state.global_step)
        if self.bar is not None and self.task_id is not None:
            self.bar.update(self.task_id, status=_status_text(entry))

    def close(self) -> None:
        """Stop the progress bar and restore the terminal."""
        if self.bar is not None:
            self.bar.stop()


def truncate_history(file: Path, step: int) -> None:
    """Drop the lines that an interrupted run wrote after the checkpoint it is resumed from."""
    if not file.exists():
        return
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if _step_of(line) <= step]
    with write_atomically(file) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def _step_of(line: str) -> float:
    """Return the step of a line; infinity for a line that was truncated by a crash."""
    try:
        return float(json.loads(line)["step"])
    except ValueError:
        return math.inf


def _rename_metrics(logs: dict[str, float]) -> dict[str, float]:
    """Rename `eval_ocr/exact_match` to `validation/ocr/exact_match`; drop the Trainer's others."""
    entry = {name: value for name, value in logs.items() if name in _LOGGED_KEYS}
    # A step whose scaled gradients overflow in fp16 is skipped; its norm is no measurement.
    if not math.isfinite(entry.get("grad_norm", 0.0)):
        del entry["grad_norm"]
    for name, value in logs.items():
        if "/" in name:
            bare = name.removeprefix(EVAL_PREFIX)
            entry[bare if bare.startswith(_SLICE_PREFIXES) else f"validation/{bare}"] = value
    return entry


def _status_text(entry: dict[str, float]) -> str:
    parts = [f"loss {entry['loss']:.3f}"] if "loss" in entry else []
    parts += [
        f"{name.removeprefix('validation/')} {value:.3f}"
        for name, value in entry.items()
        if name.startswith("validation/") or name == f"{ALIGNMENT_PREFIX}/reward"
    ][:4]
    return "  ".join(parts)
