"""Device of a process, its number formats, and errors for what it cannot do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from palitune.errors import ModelError
from palitune.models.config import Device, ModelConfig

GPU_DEVICE_NODES = Path("/dev")
"""Folder in which the NVIDIA driver creates a file per GPU, also inside containers."""


def resolve_device(model: ModelConfig) -> torch.device:
    """Return the device of this process, on a GPU that of its local rank.

    Raises ModelError if the GPU does not exist, or exists but cannot be used by torch.
    """
    if model.device is Device.cpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if _has_visible_gpu():
            raise ModelError(
                f"This machine has a GPU, but torch cannot use it: {_cuda_error()}. Install a "
                "driver and a torch build of the same CUDA version, or set model.device=cpu."
            )
        if model.device is Device.cuda:
            raise ModelError("model.device=cuda: no GPU is visible to torch. Set model.device=cpu.")
        return torch.device("cpu")
    index, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if index >= count:
        raise ModelError(
            f"Process {index} of this machine requires GPU {index}, but {count} are visible to "
            f"torch. Start at most {count} processes, or set model.device=cpu."
        )
    return torch.device("cuda", index)


def select_device(device: torch.device) -> None:
    """Make a GPU the current one and allow TF32 products on it; no effect for the CPU.

    This must precede everything that allocates: the current device is otherwise GPU 0, on which
    every process would create a context of about half a gigabyte.
    """
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)
    if torch.cuda.is_tf32_supported():
        torch.backends.cuda.matmul.fp32_precision = "tf32"


@contextmanager
def full_float32_precision() -> Iterator[None]:
    """Compute float32 products in float32 inside this context, also where TF32 is allowed."""
    matmul = torch.backends.cuda.matmul
    precision = matmul.fp32_precision
    matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        matmul.fp32_precision = precision


def supports_bf16(device: torch.device) -> bool:
    """Return whether a device computes in bf16; GPUs before Ampere only emulate it, slowly."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def _has_visible_gpu() -> bool:
    """Return whether there is an NVIDIA GPU that CUDA_VISIBLE_DEVICES does not hide."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (not visible.strip() or visible.strip().startswith("-")):
        return False
    return any(GPU_DEVICE_NODES.glob("nvidia[0-9]*"))


def _cuda_error() -> str:
    """Return the first sentence of torch's error, e.g. that the driver is too old."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (AssertionError, RuntimeError) as error:
        return str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
    return "no error is reported"
