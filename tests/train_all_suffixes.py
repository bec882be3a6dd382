"""Train with `suffixes=all`; as a program, in one process of several, on what a test left.

torchrun ... train_all_suffixes.py TOLD.pickle FOLDER
"""

import os
import pickle
import sys
from pathlib import Path

import torch
from transformers import AutoProcessor

from palitune.data.collator import Collator
from palitune.data.visits import Suffixes, Visits
from palitune.examples import Example
from palitune.models.adapters import Lora
from palitune.models.checkpoints import Local
from palitune.models.loading import load
from palitune.training.settings import Schedule, Training
from palitune.training.trainer import train


def train_all(
    base: Path, examples: list[Example], micro_batch_size: int, folder: Path
) -> dict[str, torch.Tensor]:
    """Return the adapter's weights after three steps of four examples."""
    torch.manual_seed(0)
    network = Lora(rank=4).attach(load(Local(path=str(base))))
    settings = Training(
        batch_size=4,
        micro_batch_size=micro_batch_size,
        max_steps=3,
        learning_rate=1e-2,
        schedule=Schedule.constant,
        warmup=0.0,
        workers=0,
        suffixes=Suffixes.all,
    )
    folder.mkdir(exist_ok=True)
    collator = Collator(AutoProcessor.from_pretrained(base))
    train(network, collator, Visits(examples, Suffixes.all, 0), settings, seed=0, folder=folder)
    return {name: p.data for name, p in network.named_parameters() if p.requires_grad}


if __name__ == "__main__":
    told, end = Path(sys.argv[1]), Path(sys.argv[2])
    weights = train_all(**pickle.loads(told.read_bytes()), micro_batch_size=1, folder=end)
    if os.environ["RANK"] == "0":
        torch.save(weights, end / "weights.pt")
