"""Measured training steps are read from the files of benchmarks/gpu.py, and shown by card."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from palitune.errors import DataError
from palitune.planning.gpus import CARDS, card_of_device
from palitune.planning.measurements import measurements_of

VALUES: dict[str, float | str] = {
    "ms/step": 100.0, "samples/s": 80.0, "peak GiB": 12.5, "stock ms/step": 150.0
}  # fmt: skip


def write_results(folder: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    tables = importlib.import_module("harness.gpu_table")
    monkeypatch.setattr(tables, "environment", lambda: {"device": device})
    rows = [
        tables.GpuRow("tests", "tests/cuda", {"passed": 9.0}),
        tables.GpuRow("finetune", "paligemma2 3b 224 px, lora, 8 rows", dict(VALUES)),
        tables.GpuRow("finetune", "paligemma2 28b 448 px, lora, 1 rows", {}, "out of memory"),
    ]
    tables.write_tables(rows, folder)


def test_the_steps_of_the_planned_card_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_results(tmp_path, "NVIDIA H200", monkeypatch)
    write_results(tmp_path, "NVIDIA A100-SXM4-40GB", monkeypatch)
    [step] = measurements_of("H200", tmp_path)
    assert (step.device, step.line) == ("NVIDIA H200", "paligemma2 3b 224 px, lora, 8 rows")
    assert (step.samples_per_second, step.peak_gib, step.stock_ratio) == (80.0, 12.5, 1.5)
    assert len(measurements_of("A100-40", tmp_path)) == 1
    assert measurements_of("A100-80", tmp_path) == measurements_of("H100", tmp_path) == []


@pytest.mark.parametrize(
    ("device", "memory", "card"),
    [
        ("NVIDIA H200", None, "H200"),
        ("NVIDIA H100 80GB HBM3", None, "H100"),
        ("NVIDIA A100-SXM4-80GB", None, "A100-80"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100-40"),
        ("NVIDIA A100-PCIE-40GB", None, "A100-40"),
        ("NVIDIA GeForce RTX 4090", 23.6, "4090"),
        ("Tesla T4", None, "T4"),
        ("NVIDIA L4", None, "L4"),
        ("NVIDIA L40S", None, "L40S"),
        ("NVIDIA A10", None, "A10"),
    ],
)
def test_a_card_is_known_by_the_name_of_its_device(
    device: str, memory: float | None, card: str
) -> None:
    assert card_of_device(device, memory) is CARDS[card]


def test_an_unknown_device_is_no_card() -> None:
    assert card_of_device("4 x AMD EPYC 9B45") is None


@pytest.mark.parametrize(
    "content",
    ["{", "[]", {"environment": {}, "rows": []}, {"environment": {"device": "NVIDIA H200"}}],
)
def test_another_file_is_a_sentence_with_its_path(tmp_path: Path, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json must be a file of benchmarks/gpu\.py"):
        measurements_of("H200", tmp_path)
