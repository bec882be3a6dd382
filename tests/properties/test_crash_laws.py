"""An interrupted training leaves valid checkpoints, and resuming gives the same weights."""

import json
import multiprocessing
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor

from palitune import __main__ as program
from palitune.data.collator import Collator
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.distributed import preemption
from palitune.errors import TrainingError
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.loading import load
from palitune.records import Example
from palitune.training.callbacks import LogFn, RichProgressCallback
from palitune.training.config import Schedule, TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.train import train

from support import kill_and_resume
from support.tiny_models import build_tiny
from support.toy_data import write_toy_jsonl


def train_weights(
    base: Path, examples: Sequence[Example], folder: Path, log: LogFn | None = None, **changes: Any
) -> dict[str, torch.Tensor]:
    folder.mkdir(exist_ok=True)
    torch.manual_seed(7)
    network = Lora(rank=4).apply_to(load(Local(path=str(base))))
    defaults: dict[str, Any] = {
        "global_batch_size": 2, "micro_batch_size": 2, "max_steps": 6, "save_every": 2,
        "num_workers": 0, "schedule": Schedule.constant, "learning_rate": 1e-2, "log_every": 4,
    }  # fmt: skip
    settings = TrainingConfig(**(defaults | changes))
    collator = Collator(AutoProcessor.from_pretrained(base))
    data = TrainingData(TrainingSet(examples, TargetSampling.first, 0), collator)
    train(network, data, settings, folder, log_fn=log)
    return {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with four image patches, for speed."""
    return build_tiny(tmp_path_factory.mktemp("base"), "paligemma2", image_size=28)


@pytest.fixture(scope="module")
def uninterrupted(
    base: Path, examples: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """The weights of an uninterrupted training."""
    return train_weights(base, examples, tmp_path_factory.mktemp("whole"))


def checkpoint_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_ten_kills_change_neither_weights_nor_history(
    base: Path, examples: list[Example], tmp_path: Path
) -> None:
    inputs = tmp_path / "inputs.pickle"
    inputs.write_bytes(pickle.dumps({"base": base, "examples": examples}))
    seed = random.randrange(10**6)
    done = subprocess.run(
        [sys.executable, kill_and_resume.__file__, str(inputs), str(tmp_path), "10", str(seed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == {"kills": 10, "statuses": [0, 0]}, (seed, done.stderr)
    whole, killed = (
        load_file(tmp_path / run / "weights.safetensors") for run in ("whole", "killed")
    )
    assert all(torch.equal(whole[name], weight) for name, weight in killed.items()), seed
    lines = [(tmp_path / run / "history.jsonl").read_text() for run in ("whole", "killed")]
    assert lines[0] == lines[1], seed
    assert checkpoint_names(tmp_path / "killed") == ["checkpoint-22", "checkpoint-24"]


def test_sigterm_saves_the_current_step(
    base: Path, examples: list[Example], uninterrupted: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    def send_sigterm(entry: dict[str, float], step: int) -> None:
        if step == 4:  # as a scheduler does, signal every process of the run
            for worker in multiprocessing.active_children():
                os.kill(int(worker.pid or 0), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    with preemption.handle_sigterm(), pytest.raises(preemption.Preempted, match="checkpoint-5"):
        train_weights(base, examples, tmp_path, send_sigterm, num_workers=1)
    assert checkpoint_names(tmp_path) == ["checkpoint-4", "checkpoint-5"]
    resumed = train_weights(base, examples, tmp_path, resume="auto")
    assert all(torch.equal(uninterrupted[name], weight) for name, weight in resumed.items())


def test_sigterm_gives_its_own_exit_code_and_a_hint_how_to_resume(
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    write_toy_jsonl(tmp_path / "toys")
    monkeypatch.chdir(tmp_path)

    def send_sigterm(
        self: RichProgressCallback, args: Any, state: Any, control: Any, **_: Any
    ) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RichProgressCallback, "on_step_end", send_sigterm)
    command = [
        "finetune", "task=vqa", "data=jsonl", "data.path=toys", "model=local",
        f"model.path={base}", "training.global_batch_size=4", "training.num_workers=1",
        "output_dir=run", "training.self_check=false", "evaluate_before=false",
    ]  # fmt: skip
    assert program.run(command) == 75
    assert capfd.readouterr().err.splitlines()[-1] == (
        "palitune: ended by SIGTERM; the last good checkpoint is run/checkpoints/checkpoint-1; add "
        "training.resume=auto to the same command to resume from the last checkpoint"
    )
    assert not Path("run/adapter").exists()


def test_a_damaged_newest_checkpoint_is_reported_and_the_previous_one_used(
    base: Path,
    examples: list[Example],
    uninterrupted: dict[str, torch.Tensor],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train_weights(base, examples, tmp_path)
    damaged = tmp_path / "checkpoints/checkpoint-6/weights.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')  # interrupted by a power cut
    resumed = train_weights(base, examples, tmp_path, resume="auto")
    warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert f"{damaged} is damaged (wrong checksum); resuming from checkpoint-4 instead" in warnings
    assert all(torch.equal(uninterrupted[name], weight) for name, weight in resumed.items())
    with pytest.raises(TrainingError, match=r"Cannot resume from .*: examples was 5 and is now 4"):
        train_weights(base, examples[:4], tmp_path, resume="auto", max_steps=8)


def test_a_full_disk_ends_the_run_and_keeps_the_previous_checkpoint(
    base: Path, examples: list[Example], uninterrupted: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_disk(entry: dict[str, float], step: int) -> None:
        if step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))

    try:
        with pytest.raises(TrainingError) as error:
            train_weights(base, examples, tmp_path, fill_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = tmp_path / "checkpoints"
    assert str(error.value).startswith(f"{folder}/checkpoint-4 could not be written (")
    assert "File too large" in str(error.value)
    assert str(error.value).endswith(f"the last good checkpoint is {folder}/checkpoint-2")
    assert checkpoint_names(tmp_path) == ["checkpoint-2"]
    resumed = train_weights(base, examples, tmp_path, resume="auto")
    assert all(torch.equal(uninterrupted[name], weight) for name, weight in resumed.items())


def test_nan_weights_are_never_saved(base: Path, examples: list[Example], tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "learning_rate": 1e30,
        "warmup_ratio": 0.0,
        "save_every": 1,
        "log_every": 50,
    }
    with pytest.raises(TrainingError, match=r"training diverged at step .*weights") as error:
        train_weights(base, examples, tmp_path, **settings)
    (last,) = (tmp_path / "checkpoints").iterdir()
    assert str(error.value).endswith(f"the last good checkpoint is {last}")
    saved = load_file(last / "weights.safetensors")
    assert all(bool(weight.isfinite().all()) for weight in saved.values())
