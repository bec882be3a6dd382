"""Two machines with a process each, which share out an NF4 base, give what one process gives."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from palitune import __main__ as program

from support.tiny_models import build_tiny
from support.toy_data import write_toy_jsonl

SOURCES = Path(__file__).parents[2] / "src"
TOLD = [
    "finetune", "task=vqa", "data=jsonl", "data.path=toys", "model=local", "model.path=model",
    "training.global_batch_size=4", "training.micro_batch_size=2", "training.max_steps=4",
    "training.log_every=1", "training.learning_rate=0.01", "training.num_workers=0",
    "training.validation_split=validation", "training.eval_every=2",
    "training.best_metric=vqa/anls_rrc", "task.max_new_tokens=4", "evaluation.num_workers=0",
    "evaluation.batch_size=2", "evaluation.max_samples=3", "evaluation.perplexity=true",
    "tracking=tensorboard", "adapter=qlora",
]  # fmt: skip


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_two_machines_give_what_one_process_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_tiny(tmp_path / "model", "paligemma2", image_size=28)
    write_toy_jsonl(tmp_path / "toys")
    monkeypatch.chdir(tmp_path)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    asked = ["launch=fsdp", "launch.nproc_per_node=1", "launch.nnodes=2"]
    machines = [
        subprocess.Popen(
            [sys.executable, "-m", "palitune", *TOLD, *asked, f"launch.node_rank={number}",
             f"launch.master_addr={address}"],
            env={**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip
    assert program.run([*TOLD, "output_dir=one"]) == 0
    said = [machine.communicate(timeout=300) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert [out.count("report.html") for out, _ in said] == [1, 0]

    kept = re.search(r"keeps (\d+) of the (\d+) bytes", said[0][1])
    assert kept
    assert int(kept[1]) == pytest.approx(int(kept[2]) / 2, rel=0.05)

    one = tmp_path / "one"
    (two,) = (tmp_path / "outputs/finetune").iterdir()  # both agree on the name
    written = {path.name for path in one.iterdir()}
    assert {path.name for path in two.iterdir()} == written | {"accelerate.yaml"}
    assert len(list((two / "tensorboard").iterdir())) == 1
    alone, shared = lines(one / "history.jsonl"), lines(two / "history.jsonl")
    assert len(shared) == len(alone) == 6
    for ours, theirs in zip(shared, alone, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
    adapters = [load_file(run / "adapter/adapter_model.safetensors") for run in (two, one)]
    torch.testing.assert_close(*adapters, rtol=0, atol=2e-5)
    for ours, theirs in zip(*(lines(run / "predictions.jsonl") for run in (two, one)), strict=True):
        assert (ours["id"], ours["text"]) == (theirs["id"], theirs["text"])
    judged = [json.loads((run / "metrics.json").read_text())["after"] for run in (two, one)]
    assert judged[0] == pytest.approx(judged[1], rel=1e-5)
