"""TRL's trainers see what training sees: the log-probability of every sampled token is our own."""

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

from aligned import differences, moved, part_of, teacher_forced, tuned, watched
from palitune.alignment.settings import Alignment, Method
from palitune.data.collator import Collator
from palitune.examples import Example
from palitune.models.adapters import Adapter, Lora, Qlora
from palitune.models.checkpoints import Local

PAIRED = [("paligemma", Lora(rank=4)), ("paligemma2", Qlora(rank=4))]


def test_the_log_probabilities_of_sampled_answers_are_those_of_training(
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    base, part = tiny("paligemma"), part_of(examples)
    how = Alignment(method=Method.rloo, group=2, kl_weight=0.1)
    network, processor = (
        moved(Local(path=str(base)), Lora(rank=4)),
        AutoProcessor.from_pretrained(base),
    )
    with watched() as seen:
        tuned(network, processor, part, how, tmp_path)
    apart = differences(network, processor, part, seen)
    assert len(apart) >= 2 * 2 * 4  # two steps; with the model as it was, and as it is
    assert max(apart) < 1e-5
    assert {p.dtype for p in network.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize(("family", "adapter"), PAIRED)
def test_the_log_probabilities_of_pairs_are_those_of_training(
    family: str,
    adapter: Adapter,
    tiny: Callable[[str], Path],
    examples: list[Example],
    tmp_path: Path,
) -> None:
    base, part = tiny(family), part_of(examples)
    texts = ["73", "<loc0001> boat", "a red boat", "no"]
    lines = [
        {"image": one.images[0], "prefix": one.prefix, "chosen": text, "rejected": f"{text} 1"}
        for one, text in zip(examples, texts, strict=False)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    processor = AutoProcessor.from_pretrained(base)
    network, collator = moved(Local(path=str(base)), adapter), Collator(processor)
    how = Alignment(method=Method.dpo, pairs=str(file))
    tuned(network, processor, part, how, tmp_path)
    first = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[0])
    for name, end in (("chosen", ""), ("rejected", " 1")):
        own = [
            teacher_forced(network.eval(), collator, one, *collator._targets([text + end])).sum()
            for one, text in zip(examples, texts, strict=False)
        ]
        logged = first[f"align/log_probability_of_{name}"]
        assert logged == pytest.approx(float(sum(own)) / len(own), abs=1e-4)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)  # nothing has moved yet
    assert {p.dtype for p in network.parameters() if p.requires_grad} == {torch.float32}


def test_they_are_with_nf4_and_in_two_processes_too(
    tiny: Callable[[str], Path], examples: list[Example], tmp_path: Path
) -> None:
    (tmp_path / "examples.pickle").write_bytes(pickle.dumps(examples))
    program = Path(__file__).parents[1] / "align_in_two_processes.py"
    told = [str(tiny("paligemma2")), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(program), *told], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert [len(apart) for apart in found] == [8, 8]  # two steps, two models, half of the answers
    assert max(map(max, found)) < 1e-5
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 2
