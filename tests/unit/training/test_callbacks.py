"""Lines and history of a training without a terminal."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rich
import torch
from rich.console import Console
from torch import nn

from palitune.distributed.progress import LineTimer, LoggedProgress
from palitune.training.callbacks import RichProgressCallback, SpeedCallback, _Status


def start(folder: Path, max_steps: int) -> tuple[RichProgressCallback, Any, Any]:
    callback = RichProgressCallback(folder / "history.jsonl")
    state = SimpleNamespace(
        is_world_process_zero=True, global_step=0, max_steps=max_steps, num_train_epochs=2
    )
    args = SimpleNamespace(
        per_device_train_batch_size=2, gradient_accumulation_steps=3, world_size=1
    )
    model = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Linear(1, 1, bias=False))
    model[0].requires_grad_(False)
    loader = SimpleNamespace(dataset=range(1200))
    callback.on_train_begin(args, state, None, model=model, train_dataloader=loader)
    return callback, args, state


def test_a_training_without_a_terminal_logs_a_line_per_entry(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    callback, args, state = start(tmp_path, 400)
    assert callback.bar is None
    state.global_step = 10
    callback.on_log(args, state, None, {"loss": 1.5, "learning_rate": 2e-4, "grad_norm": 1.0})
    callback.on_log(
        args, state, None,
        {"eval_ocr/a": 0.5, "eval_ocr/b": float("nan"), "eval_ocr/c": 1.0, "eval_ocr/d": 0.0},
    )  # fmt: skip
    first, second, line, metrics = [record.getMessage() for record in caplog.records]
    assert first == "training: 1,200 examples, 400 steps of 6, 2 epochs"
    assert second == (f"1 of 4 parameters trainable (25.00%), cpu, float32; run folder {tmp_path}")
    assert line.startswith("step 10 of 400  loss 1.500  learning rate 2.0e-04  0:00:")
    assert " left  memory " in line
    assert metrics == "step 10 of 400  ocr/a 0.500  ocr/c 1.000"


def test_speed_counts_steps_without_validations_checkpoints_and_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("palitune.training.callbacks.time.monotonic", lambda: now)
    callback = SpeedCallback(tmp_path / "speed.jsonl")
    state = SimpleNamespace(is_world_process_zero=True, global_step=0)
    args = SimpleNamespace(train_batch_size=4, gradient_accumulation_steps=2, world_size=3)
    callback.on_train_begin(args, state, None)
    callback.on_evaluate(args, state, None)
    for step, seconds in enumerate((100.0, 1.0, 1.0, 2.0), 1):
        now, state.global_step = now + seconds, step
        callback.on_step_end(args, state, None)
        if step == 2:  # nothing is logged in between
            continue
        callback.on_log(args, state, None, {"loss": 1.0})
        now += 50
        callback.on_evaluate(args, state, None)
        callback.on_log(args, state, None, {"eval_ocr/a": 0.5})
        callback.on_save(args, state, None)
    lines = [json.loads(line) for line in (tmp_path / "speed.jsonl").read_text().splitlines()]
    assert [(line["step"], line["samples_per_second"]) for line in lines] == [(3, 24.0), (4, 12.0)]
    assert all(line["memory_GiB"] > 0 for line in lines)
    state.global_step = 3
    callback.on_train_begin(args, state, None)
    assert len((tmp_path / "speed.jsonl").read_text().splitlines()) == 1


def test_the_history_is_strict_json(tmp_path: Path) -> None:
    callback, args, state = start(tmp_path, 400)
    callback.on_log(args, state, None, {"eval_ocr/b": float("nan"), "eval_ocr/c": float("inf")})

    def reject(name: str) -> None:
        raise AssertionError(name)

    [line] = (tmp_path / "history.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=reject) == {
        "step": 0, "validation/ocr/b": None, "validation/ocr/c": None,
    }  # fmt: skip


def test_a_training_of_few_steps_is_warned_about(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start(tmp_path, 99)
    assert "the training has only 99 steps, which rarely suffices" in caplog.text
    caplog.clear()
    start(tmp_path, 100)
    assert "which rarely suffices" not in caplog.text


def test_the_loss_stays_beside_the_bar_after_a_validation() -> None:
    status = _Status()
    status.update({"loss": 2.0})
    status.update({f"validation/ocr/{name}": 0.5 for name in "abcd"})
    assert status.loss == "loss 2.000"
    assert status.fitting_metrics(24) == "ocr/a 0.500  ocr/b 0.500"
    assert status.fitting_metrics(23) == "ocr/a 0.500"
    assert status.fitting_metrics(10) == ""


def test_on_a_terminal_a_bar_replaces_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    console = Console(force_terminal=True, width=80, file=(tmp_path / "screen").open("w"))
    monkeypatch.setattr(rich, "_console", console)
    callback, args, state = start(tmp_path, 400)
    assert callback.bar is not None
    caplog.clear()
    state.global_step = 10
    callback.on_step_end(args, state, None)
    callback.on_log(args, state, None, {"loss": 1.5})
    callback.on_log(args, state, None, {f"eval_long_component_name/{n}": 0.5 for n in "abc"})
    callback.close()
    assert caplog.text == ""
    screen = (tmp_path / "screen").read_text().rpartition("training")[2]
    assert "10/400" in screen
    assert "loss 1.500" in screen
    assert "left" in screen


def test_a_long_loop_logs_its_progress(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with LoggedProgress() as progress:
        progress._timer = LineTimer(interval=0.0)
        task = progress.add_task("evaluating ocr", total=3)
        progress.advance(task)
        progress.advance(task, 2)
    with LoggedProgress(disable=True) as silent:
        silent.add_task("evaluating ocr", total=3)
    assert [record.getMessage() for record in caplog.records] == [
        "evaluating ocr: 3 in all", "evaluating ocr: 1 of 3", "evaluating ocr: 3 of 3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("supported", "device", "dtype", "warns"),
    [
        (False, "cpu", torch.bfloat16, True),
        (True, "cpu", torch.bfloat16, False),
        (False, "cpu", torch.float32, False),
        (False, "cuda", torch.bfloat16, False),
    ],
)
def test_a_precision_that_the_cpu_only_emulates_is_warned_about(
    supported: bool,
    device: str,
    dtype: torch.dtype,
    warns: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from palitune.models import precision

    monkeypatch.setattr(precision, "cpu_computes_bf16", lambda: supported)
    precision.warn_of_emulated_precision(torch.device(device), dtype)
    assert ("no bf16 instructions" in caplog.text) is warns
