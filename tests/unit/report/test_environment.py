"""Versions and hardware, as data and as text."""

import getpass
import json
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from palitune.report.environment import environment, format_environment


def test_a_cpu_is_described_with_memory_and_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = environment(tmp_path / "does/not/exist")
    assert result["python"] == platform.python_version()
    assert result["torch"] == torch.__version__
    machine = result["machine"]
    assert machine["gpus"] == []
    assert machine["dtypes"] == ["fp32", "bf16", "fp16"]
    assert machine["tf32"] is False
    assert machine["free_disk_gib"] > 0
    assert 0 < machine["free_memory_gib"] < 1e5
    versions, devices, quantization, free = format_environment(result)
    assert f"torch {torch.__version__}" in versions
    assert devices.startswith("devices: CPU, ")
    assert quantization == "quantization: bitsandbytes works on the CPU: nf4, int8"
    assert free == (
        f"free: {machine['free_memory_gib']} GiB of memory, {machine['free_disk_gib']} GiB of disk"
    )


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two GPUs before Ampere, the second is current; the list gets the queries of free memory."""
    queried: list[int] = []
    cuda = torch.cuda

    def mem_get_info(number: int) -> tuple[int, int]:
        queried.append(number)
        return 2 * 2**30, 8 * 2**30

    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 2)
    monkeypatch.setattr(cuda, "current_device", lambda: 1)
    monkeypatch.setattr(cuda, "get_device_name", lambda number=0: f"GPU {number}")
    monkeypatch.setattr(cuda, "mem_get_info", mem_get_info)
    monkeypatch.setattr(
        cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=8 * 2**30)
    )
    monkeypatch.setattr(
        cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    monkeypatch.setattr(cuda, "is_tf32_supported", lambda: False)
    return queried


def test_every_gpu_is_described_but_only_the_current_one_is_initialized(
    tmp_path: Path, two_gpus: list[int]
) -> None:
    _, devices, quantization, _ = format_environment(environment(tmp_path))
    assert devices == ("devices: GPU 0 (8.0 GiB), GPU 1 (2.0 of 8.0 GiB free); fp32, fp16")
    assert quantization.startswith("quantization: bitsandbytes ")
    assert two_gpus == [1]


def test_tf32_is_recorded(
    tmp_path: Path, two_gpus: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment(tmp_path)["machine"]["tf32"] is False
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: True)
    result = environment(tmp_path)
    assert result["machine"]["tf32"] is True
    assert format_environment(result)[1].endswith("; fp32, fp16 (fp32 products in tf32)")


def test_nothing_reveals_user_or_host(tmp_path: Path) -> None:
    written = json.dumps(environment(tmp_path))
    assert str(tmp_path) not in written
    assert platform.node() not in written
    assert f"/{getpass.getuser()}/" not in written
