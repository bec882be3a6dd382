"""Program: train in processes that are killed at random and resumed until one finishes.

It imports torch once and forks a process per attempt, before it computes anything, because threads
of torch do not survive a fork.
"""

import gc
import json
import os
import pickle
import random
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.models.adapters.config import Lora
from palitune.models.config import Local
from palitune.models.loading import load
from palitune.records import Example
from palitune.training.config import TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.train import train

STEPS = 24
"""More steps than the killed attempts can complete: each saves at most one checkpoint."""
MAX_KILL_DELAY = 0.1
"""Maximum seconds between the last permitted step of a process and its kill; a step and the writing
of a checkpoint together take about half of it."""


def build_inputs(
    base: Path, examples: Sequence[Example]
) -> tuple[Any, Collator, Sequence[Example]]:
    """Build network, collator and examples, which all attempts share."""
    torch.manual_seed(7)
    network = Lora(rank=2, dropout=0.1).apply_to(load(Local(path=str(base))))
    return network, Collator(AutoProcessor.from_pretrained(base)), examples


def run_attempt(
    network: Any,
    collator: Collator,
    examples: Sequence[Example],
    folder: Path,
    done_fd: int,
    allowed_fd: int,
) -> None:
    """Train; after each step write a byte to `done_fd` and read one from `allowed_fd`."""
    settings = TrainingConfig(
        global_batch_size=2, micro_batch_size=1, max_steps=STEPS, learning_rate=1e-2, log_every=1,
        save_every=2, resume="auto", num_workers=0, target_sampling=TargetSampling.sample,
    )  # fmt: skip

    def synchronize(entry: dict[str, float], step: int) -> None:
        os.write(done_fd, b".")
        os.read(allowed_fd, 1)

    data = TrainingData(TrainingSet(examples, settings.target_sampling, 3), collator)
    train(network, data, settings, folder, log_fn=synchronize)
    weights = {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}
    save_file(weights, folder / "weights.safetensors")


def fork_attempt(
    inputs: tuple[Any, Collator, Sequence[Example]], folder: Path, steps: int | None = None
) -> tuple[int, int]:
    """Fork an attempt that waits after `steps` + 1 steps; None: it does not wait.

    Returns its process id and the pipe from which its completed steps are read.
    """
    read_done, write_done = os.pipe()
    read_allowed, write_allowed = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(write_allowed)
        try:
            run_attempt(*inputs, folder=folder, done_fd=write_done, allowed_fd=read_allowed)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    os.close(write_done)
    os.close(read_allowed)
    # The pipe stays open: after its end the attempt would not wait.
    os.write(write_allowed, b"." * (STEPS if steps is None else steps))
    return process, read_done


def kill_attempt(
    inputs: tuple[Any, Collator, Sequence[Example]], folder: Path, rng: random.Random
) -> bool:
    """Kill an attempt in a random step; return False if it had already finished."""
    steps = rng.randrange(4)
    process, read_done = fork_attempt(inputs, folder, steps)
    for _ in range(steps):
        os.read(read_done, 1)
    time.sleep(rng.random() * MAX_KILL_DELAY)
    os.kill(process, signal.SIGKILL)
    os.close(read_done)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def main(inputs_file: Path, folder: Path, kills: int, seed: int) -> None:
    """Train once without and once with kills; print the number of kills."""
    inputs = build_inputs(**pickle.loads(inputs_file.read_bytes()))
    gc.freeze()  # otherwise the garbage collector of every process scans all modules
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    undisturbed, _ = fork_attempt(inputs, folder / "whole")
    rng = random.Random(seed)
    num_killed = sum(kill_attempt(inputs, folder / "killed", rng) for _ in range(kills))
    last, _ = fork_attempt(inputs, folder / "killed")
    statuses = [os.waitpid(process, 0)[1] for process in (undisturbed, last)]
    print(json.dumps({"kills": num_killed, "statuses": statuses}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
