"""Train toys in processes that are killed at random, over and over, until one comes to its end.

A program of its own: it imports torch once and forks a process per attempt, before it has computed
anything that a fork would not survive.
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
from palitune.training.trainer import fit

STEPS = 48
"""More than the attempts that are killed can do: each saves once at most."""
MAX_KILL_DELAY = 0.1
"""Seconds within which a process is killed once it has done the steps that it is granted: a step
and the writing of a checkpoint together take about half of that."""


def build_inputs(
    base: Path, examples: Sequence[Example]
) -> tuple[Any, Collator, Sequence[Example]]:
    """What every attempt begins with; importing it takes longer than an attempt."""
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
    """Train to the end, writing a byte to the pipe `done` after each step.

    It goes on behind a step once there is a byte in the pipe `allowed`.
    """
    settings = TrainingConfig(
        global_batch_size=2, micro_batch_size=1, max_steps=STEPS, learning_rate=1e-2, log_every=1,
        save_every=2, resume="auto", num_workers=0, target_sampling=TargetSampling.sample,
    )  # fmt: skip

    def tell(numbers: dict[str, float], step: int) -> None:
        os.write(done_fd, b".")
        os.read(allowed_fd, 1)

    visits = TrainingSet(examples, settings.target_sampling, 3)
    fit(network, collator, visits, settings, seed=3, folder=folder, log_fn=tell)
    weights = {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}
    save_file(weights, folder / "weights.safetensors")


def fork_attempt(
    inputs: tuple[Any, Collator, Sequence[Example]], folder: Path, steps: int | None = None
) -> tuple[int, int]:
    """Begin an attempt that waits behind so many steps and one; None: it never does.

    Returns its process and the end of the pipe that it writes to.
    """
    heard, done = os.pipe()
    allowed, allow = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(allow)
        try:
            run_attempt(*inputs, folder=folder, done_fd=done, allowed_fd=allowed)
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    os.close(done)
    os.close(allowed)
    os.write(allow, b"." * (STEPS if steps is None else steps))  # left open, or it need not wait
    return process, heard


def kill_attempt(
    inputs: tuple[Any, Collator, Sequence[Example]], folder: Path, rng: random.Random
) -> bool:
    """Kill an attempt after none to three steps, somewhere within the next; False: it was over."""
    steps = rng.randrange(4)
    process, heard = fork_attempt(inputs, folder, steps)
    for _ in range(steps):
        os.read(heard, 1)
    time.sleep(rng.random() * MAX_KILL_DELAY)
    os.kill(process, signal.SIGKILL)
    os.close(heard)
    return os.WIFSIGNALED(os.waitpid(process, 0)[1])


def main(inputs_file: Path, folder: Path, kills: int, seed: int) -> None:
    """Train once undisturbed and once with kills, and say how many there were."""
    told = build_inputs(**pickle.loads(inputs_file.read_bytes()))
    gc.freeze()  # else every process looks through all imported modules for garbage
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    undisturbed, _ = fork_attempt(told, folder / "whole")
    chance = random.Random(seed)
    counted = sum(kill_attempt(told, folder / "killed", chance) for _ in range(kills))
    last, _ = fork_attempt(told, folder / "killed")
    ends = [os.waitpid(process, 0)[1] for process in (undisturbed, last)]
    print(json.dumps({"kills": counted, "ends": ends}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
