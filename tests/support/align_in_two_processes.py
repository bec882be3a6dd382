"""Program: run GRPO with NF4 in two processes and compare log-probabilities in each."""

import json
import pickle
import sys
from pathlib import Path

from transformers import AutoProcessor

import palitune.alignment.methods
import palitune.models.adapters.fast_lora
import palitune.models.loading  # noqa: F401
from palitune.alignment.config import AlignmentConfig, AlignmentMethod
from palitune.distributed import collectives
from palitune.models.adapters.config import Qlora
from palitune.models.config import Local

from support.alignment_runs import (
    log_prob_differences,
    perturbed_network,
    record_log_probs,
    train_with_zero_lr,
    vqa_dataset,
)
from support.two_processes import run_in_two_processes


def run_rank(base: Path, folder: Path) -> None:
    """Run one of the processes."""
    dataset = vqa_dataset(pickle.loads((folder / "examples.pickle").read_bytes()))
    network, processor = (
        perturbed_network(Local(path=str(base)), Qlora(rank=4)),
        AutoProcessor.from_pretrained(base),
    )
    config = AlignmentConfig(method=AlignmentMethod.grpo, num_generations=2, beta=0.1)
    with record_log_probs() as recorded:
        train_with_zero_lr(network, processor, dataset, config, folder)
    differences = log_prob_differences(network, processor, dataset, recorded)
    (folder / f"{collectives.rank()}.json").write_text(json.dumps(differences))


if __name__ == "__main__":
    sys.exit(not run_in_two_processes(lambda: run_rank(*map(Path, sys.argv[1:]))))
