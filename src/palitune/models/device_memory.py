"""Memory of the device: its size, and errors of allocations that exceed it."""

import gc
import os

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the device, or the host for a CPU, has too little memory.

    torch has no error class of its own for the CPU.
    """
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def release_memory() -> None:
    """Free tensors that only reference cycles keep, and return cached memory to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def default_device_type() -> str:
    """Return cuda if there is a GPU, otherwise cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def total_memory(device_type: str) -> int:
    """Return the bytes of memory of the current GPU, or of the host."""
    if device_type == "cuda":
        return int(torch.cuda.mem_get_info()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
