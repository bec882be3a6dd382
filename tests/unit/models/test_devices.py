"""The device of a process: GPUs that are missing, hidden or unusable, and number formats."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from palitune.errors import ModelError
from palitune.models import devices
from palitune.models.config import Device, PaliGemma2
from palitune.models.devices import full_float32_precision, resolve_device, select_device


@pytest.fixture
def unusable_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU whose driver is too old for torch."""
    message = "The NVIDIA driver on your system is too old (found version 11040). Please update."

    def init() -> None:
        raise RuntimeError(message)

    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(devices, "GPU_DEVICE_NODES", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def matmul() -> Iterator[Any]:
    """torch's settings of products on GPUs, restored after the test."""
    settings = torch.backends.cuda.matmul
    before = settings.fp32_precision
    yield settings
    settings.fp32_precision = before


@pytest.mark.parametrize("device", [Device.auto, Device.cuda])
def test_a_gpu_that_torch_cannot_use_is_an_error(device: Device, unusable_gpu: None) -> None:
    with pytest.raises(ModelError) as error:
        resolve_device(PaliGemma2(device=device))
    assert str(error.value) == (
        "This machine has a GPU, but torch cannot use it: The NVIDIA driver on your system is too "
        "old (found version 11040). Install a driver and a torch build of the same CUDA version, "
        "or set model.device=cpu."
    )


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_an_unusable_gpu_is_no_error_if_it_is_hidden_or_not_requested(
    hidden: str, unusable_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_device(PaliGemma2(device=Device.cpu)) == torch.device("cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert resolve_device(PaliGemma2()) == torch.device("cpu")


def test_the_error_of_a_torch_build_without_cuda_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(devices, "GPU_DEVICE_NODES", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(ModelError, match=r"torch cannot use it: \w.*set model.device=cpu\.$"):
        resolve_device(PaliGemma2())


def test_each_process_of_a_launcher_takes_the_gpu_of_its_rank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert resolve_device(PaliGemma2()) == torch.device("cuda", 3)
    assert resolve_device(PaliGemma2(device=Device.cpu)) == torch.device("cpu")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ModelError, match=r"requires GPU 2, but 2 are .* at most 2 processes"):
        resolve_device(PaliGemma2())


@pytest.mark.parametrize(("supported", "precision"), [(True, "tf32"), (False, "none")])
def test_a_selected_gpu_is_current_and_computes_in_tf32_where_it_can(
    supported: bool, precision: str, matmul: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: supported)
    select_device(torch.device("cpu"))
    assert not current
    select_device(torch.device("cuda", 1))
    assert current == [torch.device("cuda", 1)]
    assert matmul.fp32_precision == precision


def test_full_precision_ends_with_its_context(matmul: Any) -> None:
    matmul.fp32_precision = "tf32"
    with full_float32_precision():
        assert matmul.fp32_precision == "ieee"
    assert matmul.fp32_precision == "tf32"
