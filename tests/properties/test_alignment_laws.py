"""TRL's trainers compute the same log-probabilities as supervised training."""

import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoProcessor

from palitune.alignment.config import AlignmentConfig, AlignmentMethod
from palitune.data.collator import Collator
from palitune.models.adapters.config import AdapterConfig, Lora, Qlora
from palitune.models.config import Local
from palitune.records import Example

from support.alignment_runs import (
    log_prob_differences,
    perturbed_network,
    record_log_probs,
    teacher_forced_log_probs,
    train_with_zero_lr,
    vqa_dataset,
)

FAMILIES = [("paligemma", Lora(rank=4)), ("paligemma2", Qlora(rank=4))]


def test_log_probabilities_of_generations_equal_those_of_training(
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    base, dataset = tiny("paligemma"), vqa_dataset(examples)
    config = AlignmentConfig(method=AlignmentMethod.rloo, num_generations=2, beta=0.1)
    network, processor = (
        perturbed_network(Local(path=str(base)), Lora(rank=4)),
        AutoProcessor.from_pretrained(base),
    )
    with record_log_probs() as recorded:
        train_with_zero_lr(network, processor, dataset, config, tmp_path)
    differences = log_prob_differences(network, processor, dataset, recorded)
    assert len(differences) >= 2 * 2 * 4  # two steps; initial and current model
    assert max(differences) < 1e-5
    assert {p.dtype for p in network.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize(("family", "adapter"), FAMILIES)
def test_log_probabilities_of_pairs_equal_those_of_training(
    family: str,
    adapter: AdapterConfig,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    base, dataset = tiny(family), vqa_dataset(examples)
    texts = ["73", "<loc0001> boat", "a red boat", "no"]
    lines = [
        {"image": e.images[0], "prefix": e.prefix, "chosen": text, "rejected": f"{text} 1"}
        for e, text in zip(examples, texts, strict=False)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    processor = AutoProcessor.from_pretrained(base)
    network, collator = perturbed_network(Local(path=str(base)), adapter), Collator(processor)
    config = AlignmentConfig(method=AlignmentMethod.dpo, pairs=str(file))
    train_with_zero_lr(network, processor, dataset, config, tmp_path)
    first = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[0])
    for name, end in (("chosen", ""), ("rejected", " 1")):
        expected = [
            teacher_forced_log_probs(
                network.eval(), collator, example, *collator._target_token_ids([text + end])
            ).sum()
            for example, text in zip(examples, texts, strict=False)
        ]
        logged = first[f"align/logps_{name}"]
        assert logged == pytest.approx(float(sum(expected)) / len(expected), abs=1e-4)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)  # the policy is the initial model
    assert {p.dtype for p in network.parameters() if p.requires_grad} == {torch.float32}


def test_log_probabilities_are_equal_with_nf4_in_two_processes(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    (tmp_path / "examples.pickle").write_bytes(pickle.dumps(examples))
    program = Path(__file__).parents[1] / "support" / "align_in_two_processes.py"
    arguments = [str(tiny("paligemma2")), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(program), *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    differences = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [len(values) for values in differences] == [8, 8]  # 2 steps, 2 models, half of the texts
    assert max(map(max, differences)) < 1e-5
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 2
