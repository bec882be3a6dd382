"""Train with `suffixes=all`; as a program, in two processes, as a test has told.

train_all_suffixes.py TOLD.pickle
"""

import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor

from palitune import processes
from palitune.data.collator import Collator
from palitune.data.visits import Suffixes, Visits
from palitune.engines import ALONE, Launch
from palitune.examples import Example
from palitune.models.adapters import Adapter, Lora
from palitune.models.checkpoints import Local
from palitune.models.loading import load
from palitune.training.settings import Schedule, Training
from palitune.training.trainer import train

from two_processes import in_two_processes


def train_all(
    base: Path,
    examples: list[Example],
    micro_batch_size: int,
    folder: Path,
    launch: Launch = ALONE,
    checkpoint: str | None = None,
    adapter: Adapter | None = None,
) -> dict[str, torch.Tensor]:
    """Return the adapter's weights after three steps of four examples."""
    torch.manual_seed(0)
    network = (adapter or Lora(rank=4)).attach(load(Local(path=str(base)), adapter))
    settings = Training(
        batch_size=4,
        micro_batch_size=micro_batch_size,
        max_steps=3,
        learning_rate=1e-4 if adapter else 1e-2,
        schedule=Schedule.constant,
        warmup=0.0,
        workers=0,
        save_every=1,
        keep_checkpoints=3,
        resume=checkpoint,
        suffixes=Suffixes.all,
    )
    folder.mkdir(exist_ok=True, parents=True)
    collator = Collator(AutoProcessor.from_pretrained(base))
    visits = Visits(examples, Suffixes.all, 0)
    train(network, collator, visits, settings, launch, seed=0, folder=folder)
    return {name: p.data for name, p in network.named_parameters() if p.requires_grad}


def share(folder: Path, launch: Launch, **told: Any) -> None:
    """Do the part of one process."""
    launch.join()
    weights = train_all(**told, micro_batch_size=1, folder=folder, launch=launch)
    if processes.is_first():
        torch.save(weights, folder / "weights.pt")


if __name__ == "__main__":
    for told in pickle.loads(Path(sys.argv[1]).read_bytes()):
        if not in_two_processes(partial(share, **told)):
            sys.exit(f"{told['launch'].name} failed")
