"""Tune in two processes with NF4, and compare log-probabilities in each: a program of its own."""

import json
import pickle
import sys
from pathlib import Path

from transformers import AutoProcessor

import palitune.alignment.running
import palitune.models.lean_lora
import palitune.models.loading  # noqa: F401
from aligned import differences, moved, part_of, tuned, watched
from palitune import processes
from palitune.alignment.settings import Alignment, Method
from palitune.models.adapters import Qlora
from palitune.models.checkpoints import Local

from two_processes import in_two_processes


def share(base: Path, folder: Path) -> None:
    """Do the part of one process."""
    part = part_of(pickle.loads((folder / "examples.pickle").read_bytes()))
    network, processor = (
        moved(Local(path=str(base)), Qlora(rank=4)),
        AutoProcessor.from_pretrained(base),
    )
    how = Alignment(method=Method.grpo, group=2, kl_weight=0.1)
    with watched() as seen:
        tuned(network, processor, part, how, folder)
    apart = differences(network, processor, part, seen)
    (folder / f"{processes.rank()}.json").write_text(json.dumps(apart))


if __name__ == "__main__":
    sys.exit(not in_two_processes(lambda: share(*map(Path, sys.argv[1:]))))
