"""Train with `target_sampling=all`; as a program, in two processes.

train_all_suffixes.py RUNS.pickle
"""

import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.training_set import TargetSampling, TrainingSet
from palitune.distributed import collectives
from palitune.distributed.strategies import SINGLE_PROCESS, Strategy
from palitune.models.adapters.config import AdapterConfig, Lora
from palitune.models.config import Local
from palitune.models.loading import load
from palitune.records import Example
from palitune.training.config import Schedule, TrainingConfig
from palitune.training.data import TrainingData
from palitune.training.train import train

from support.two_processes import run_in_two_processes


def train_all(
    base: Path,
    examples: list[Example],
    micro_batch_size: int,
    folder: Path,
    launch: Strategy = SINGLE_PROCESS,
    checkpoint: str | None = None,
    adapter: AdapterConfig | None = None,
) -> dict[str, torch.Tensor]:
    """Return the trained weights after three steps of four examples."""
    torch.manual_seed(0)
    network = (adapter or Lora(rank=4)).apply_to(load(Local(path=str(base)), adapter))
    settings = TrainingConfig(
        global_batch_size=4,
        micro_batch_size=micro_batch_size,
        max_steps=3,
        learning_rate=1e-4 if adapter else 1e-2,
        schedule=Schedule.constant,
        warmup_ratio=0.0,
        num_workers=0,
        save_every=1,
        keep_checkpoints=3,
        resume=checkpoint,
        target_sampling=TargetSampling.all,
    )
    folder.mkdir(exist_ok=True, parents=True)
    collator = Collator(AutoProcessor.from_pretrained(base))
    data = TrainingData(TrainingSet(examples, TargetSampling.all, 0), collator)
    train(network, data, settings, folder, launch=launch)
    return {name: p.data for name, p in network.named_parameters() if p.requires_grad}


def run_rank(folder: Path, launch: Strategy, **train_args: Any) -> None:
    """Run one of the processes."""
    launch.init_process()
    weights = train_all(**train_args, micro_batch_size=1, folder=folder, launch=launch)
    if collectives.is_main_process():
        torch.save(weights, folder / "weights.pt")


if __name__ == "__main__":
    for run in pickle.loads(Path(sys.argv[1]).read_bytes()):
        if not run_in_two_processes(partial(run_rank, **run)):
            sys.exit(f"{run['launch'].name} failed")
