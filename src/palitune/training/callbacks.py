"""Progress bar and `history.jsonl` of a training."""

import json
import logging
import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import rich.progress
import torch
from transformers import TrainerCallback

from palitune.distributed.progress import LineTimer, shows_bars
from palitune.errors import TrainingError
from palitune.paths import write_atomically
from palitune.training.early_stopping import EVAL_PREFIX
from palitune.training.validation_loss import MINITRAIN, MINIVAL

EvalFn = Callable[[], dict[str, float]]
"""Computes metrics of the network by name: `component/metric`, or `minival/loss` and the like."""

LogFn = Callable[[dict[str, float], int], None]
"""Receives the entries of the history with their steps."""

FEW_STEPS = 100
"""Below this number of steps a training is warned about."""
MAX_METRICS = 2
"""Metrics shown of a validation; bar, step, loss and remaining time always stay visible."""

ALIGNMENT_PREFIX = "align"
"""First component of the names of metrics on sampled generations and preference pairs."""
_BAR_WIDTH = 12

_log = logging.getLogger(__name__)

_SLICE_PREFIXES = (f"{MINITRAIN}/", f"{MINIVAL}/", f"{ALIGNMENT_PREFIX}/")
_LOGGED_KEYS = {"loss", "learning_rate", "grad_norm", "epoch"}


class RichProgressCallback(TrainerCallback):  # type: ignore[misc]
    """Show loss, metrics and remaining time; append every log entry to a file.

    On a terminal these are a bar, otherwise a plain line per log entry.
    """

    def __init__(self, history_path: Path, log_fn: LogFn | None = None) -> None:
        self.history_path = history_path
        self.log_fn = log_fn
        self.bar: rich.progress.Progress | None = None
        self.task_id: rich.progress.TaskID | None = None
        self._status = _Status()
        self._timer = LineTimer()
        self._start_time, self._start_step = time.monotonic(), 0

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        truncate_history(self.history_path, state.global_step)
        self._start_time, self._start_step = time.monotonic(), state.global_step
        loader = kwargs.get("train_dataloader")
        for line in describe_training(args, state, model, loader, self.history_path.parent):
            _log.info(line)
        if state.max_steps < FEW_STEPS:
            _log.warning(
                "the training has only %d steps, which rarely suffices; for a small data set raise "
                "training.epochs or lower training.global_batch_size",
                state.max_steps,
            )
        if not shows_bars():
            return
        self.bar = rich.progress.Progress(
            rich.progress.TextColumn("training"),
            rich.progress.BarColumn(bar_width=_BAR_WIDTH),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[status]}"),
            rich.progress.TextColumn("left"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[metrics]}"),
            refresh_per_second=2,
        )
        self.task_id = self.bar.add_task(
            "training",
            total=state.max_steps,
            completed=state.global_step,
            status="",
            metrics="",
        )
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.bar is not None and self.task_id is not None:
            self.bar.update(self.task_id, completed=state.global_step)
        elif state.is_world_process_zero and self._timer.is_due():
            _log.info(self._line(state))

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
            strict = {k: v if math.isfinite(v) else None for k, v in entry.items()}
            file.write(json.dumps({"step": state.global_step, **strict}, allow_nan=False) + "\n")
        if self.log_fn is not None:
            self.log_fn(entry, state.global_step)
        self._status.update(entry)
        if self.bar is not None and self.task_id is not None:
            taken = len(f"training {'':{_BAR_WIDTH}} {state.max_steps}/{state.max_steps} ")
            taken += len(f"{self._status.loss} left -:--:--:-- ")
            metrics = self._status.fitting_metrics(self.bar.console.width - taken)
            self.bar.update(self.task_id, status=self._status.loss, metrics=metrics)
        else:
            self._timer.restart()
            _log.info(self._line(state, entry))

    def _line(self, state: Any, entry: dict[str, float] | None = None) -> str:
        """Return step, loss, learning rate, remaining time and memory, or the metrics."""
        step = f"step {state.global_step} of {state.max_steps}"
        if entry is not None and "loss" not in entry:
            return "  ".join([step, *_metric_texts(entry)])
        parts = [step, self._status.loss, self._status.learning_rate]
        done = state.global_step - self._start_step
        if done > 0:
            seconds = (time.monotonic() - self._start_time) / done
            left = timedelta(seconds=round(seconds * (state.max_steps - state.global_step)))
            parts.append(f"{left} left")
        return "  ".join(filter(None, [*parts, f"memory {memory_gib():.1f} GiB"]))

    def close(self) -> None:
        """Stop the progress bar and restore the terminal."""
        if self.bar is not None:
            self.bar.stop()


class SpeedCallback(TrainerCallback):  # type: ignore[misc]
    """Writes `speed.jsonl`: samples per second and peak memory at each log entry.

    Time of validations and checkpoints, and the first step of a call, are not counted. The file is
    separate from `history.jsonl`, which is equal for an interrupted and an uninterrupted run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._steps, self._start = 0, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            truncate_history(self.path, state.global_step)
        self._steps = -1

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._steps += 1
        if self._steps == 0:
            self._restart()

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._restart()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._restart()

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if "loss" not in (logs or {}) or self._steps <= 0:
            return
        seconds = time.monotonic() - self._start
        samples = self._steps * args.train_batch_size * args.gradient_accumulation_steps
        entry = {
            "step": state.global_step,
            "samples_per_second": round(samples * args.world_size / max(seconds, 1e-9), 3),
            "memory_GiB": round(memory_gib(), 3),
        }
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, allow_nan=False) + "\n")
        self._restart()

    def _restart(self) -> None:
        self._steps, self._start = min(self._steps, 0), time.monotonic()


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


@dataclass
class _Status:
    """Latest values beside the progress bar."""

    loss: str = ""
    learning_rate: str = ""
    metrics: tuple[str, ...] = ()

    def update(self, entry: dict[str, float]) -> None:
        """Replace the values that an entry has."""
        if "loss" in entry:
            self.loss = f"loss {entry['loss']:.3f}"
        if "learning_rate" in entry:
            self.learning_rate = f"learning rate {entry['learning_rate']:.1e}"
        if metrics := _metric_texts(entry):
            self.metrics = tuple(metrics)

    def fitting_metrics(self, width: int) -> str:
        """Return as many metrics as fit in a width; the bar must not shrink for them."""
        texts = ["  ".join(self.metrics[:count]) for count in range(len(self.metrics), 0, -1)]
        return next((text for text in texts if len(text) <= width), "")


def _metric_texts(entry: dict[str, float]) -> list[str]:
    """Return the first metrics of a validation that are defined."""
    texts = [
        f"{name.removeprefix('validation/')} {value:.3f}"
        for name, value in entry.items()
        if "/" in name and math.isfinite(value)
    ]
    return texts[:MAX_METRICS]


def memory_gib() -> float:
    """Return the peak memory of the GPU, or without one that of the process, in GiB."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    kib_per_unit = 1 if sys.platform == "linux" else 1 / 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kib_per_unit / 2**20


def describe_training(args: Any, state: Any, model: Any, loader: Any, folder: Path) -> list[str]:
    """Describe size, device and folder of a training in two lines.

    Args:
        args: Arguments of the Trainer.
        state: State of the Trainer.
        model: Network with its trainable adapter.
        loader: Data loader of the training set.
        folder: Run folder.
    """
    parameters = list(model.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    stored = sum(p.numel() for p in parameters)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    examples = f"{len(loader.dataset):,} examples, " if loader is not None else ""
    frozen = next((p for p in parameters if not p.requires_grad), parameters[0])
    bits = getattr(getattr(model, "config", None), "quantization_config", None)
    dtype = str(frozen.dtype).removeprefix("torch.")
    precision = f"quantized base ({dtype} storage)" if bits is not None else dtype
    return [
        f"training: {examples}{state.max_steps:,} steps of {batch}, "
        f"{state.num_train_epochs:g} epochs",
        f"{trainable:,} of {stored:,} parameters trainable ({trainable / stored:.2%}), "
        f"{frozen.device.type}, {precision}; run folder {folder}",
    ]
