"""Tune in two processes with NF4, and compare log-probabilities in each.

A program of its own: it imports all that takes long once, and forks before it has computed
anything.
"""

import json
import os
import pickle
import socket
import sys
from pathlib import Path

from transformers import AutoProcessor

import palitune.alignment.running
import palitune.models.lean_lora
import palitune.models.loading  # noqa: F401
from aligned import differences, moved, part_of, tuned, watched
from palitune.alignment.settings import Alignment, Method
from palitune.models.adapters import Qlora
from palitune.models.checkpoints import Local


def share(rank: int, port: int, base: Path, folder: Path) -> None:
    """Do the part of one process."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
    }  # fmt: skip
    part = part_of(pickle.loads((folder / "examples.pickle").read_bytes()))
    network, processor = (
        moved(Local(path=str(base)), Qlora(rank=4)),
        AutoProcessor.from_pretrained(base),
    )
    how = Alignment(method=Method.grpo, group=2, kl_weight=0.1)
    with watched() as seen:
        tuned(network, processor, part, how, folder)
    apart = differences(network, processor, part, seen)
    (folder / f"{rank}.json").write_text(json.dumps(apart))


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        if (child := os.fork()) == 0:
            share(rank, port, Path(sys.argv[1]), Path(sys.argv[2]))
            sys.exit(0)
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0 for child in children))
