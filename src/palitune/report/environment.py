"""Versions, devices, supported dtypes, free memory and disk space of a run."""

import platform
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    *("palitune", "torch", "transformers", "tokenizers", "peft", "accelerate", "bitsandbytes"),
    *("datasets", "numpy", "pillow", "rapidfuzz", "pycocotools", "pycocoevalcap"),
)
_GIB = 2**30


def environment(folder: Path) -> dict[str, Any]:
    """Return versions and devices that a result depends on, nothing about the user or the host.

    `folder`: output folder of the run, which need not exist.
    """
    import torch

    versions = {name: metadata.version(name) for name in _PACKAGES if _is_installed(name)}
    cuda, threads = torch.cuda.is_available(), torch.get_num_threads()
    return {
        "python": platform.python_version(),
        **versions,
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {threads} threads",
        "system": platform.platform(terse=True),
        "machine": hardware(folder),
    }


def hardware(folder: Path) -> dict[str, Any]:
    """Return GPUs with their memory, supported dtypes, free memory and disk space, in GiB."""
    import torch

    from palitune.models.devices import supports_bf16

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    return {
        "gpus": [_gpu(number) for number in gpus],
        "dtypes": [
            "fp32",
            *(["bf16"] if all(supports_bf16(torch.device("cuda", n)) for n in gpus) else []),
            "fp16",
        ],
        "tf32": bool(gpus) and torch.cuda.is_tf32_supported(),
        "free_memory_gib": _available_memory_gib(),
        "free_disk_gib": _to_gib(shutil.disk_usage(existing).free),
    }


def _gpu(number: int) -> dict[str, Any]:
    """Return name and memory of a GPU; the free memory only of this process's own.

    On another GPU the query would create a context of about half a gigabyte.
    """
    import torch

    own = number == torch.cuda.current_device()
    return {
        "name": torch.cuda.get_device_name(number),
        "free_gib": _to_gib(torch.cuda.mem_get_info(number)[0]) if own else None,
        "total_gib": _to_gib(torch.cuda.get_device_properties(number).total_memory),
    }


def format_environment(versions_and_hardware: Mapping[str, Any]) -> list[str]:
    """Format the result of `environment` as lines."""
    machine = versions_and_hardware["machine"]
    versions = [
        f"{name} {versions_and_hardware[name]}"
        for name in ("python", *_PACKAGES)
        if name in versions_and_hardware
    ]
    gpus = [f"{gpu['name']} ({_memory(gpu)})" for gpu in machine["gpus"]]
    devices = ", ".join(gpus) or versions_and_hardware["device"]
    memory = machine["free_memory_gib"]
    tf32 = " (fp32 products in tf32)" if machine["tf32"] else ""
    return [
        f"versions: {', '.join(versions)}",
        f"devices: {devices}; {', '.join(machine['dtypes'])}{tf32}",
        f"quantization: {_quantization_support(bool(gpus))}",
        f"free: {'unknown' if memory is None else memory} GiB of memory, "
        f"{machine['free_disk_gib']} GiB of disk",
    ]


def _memory(gpu: Mapping[str, Any]) -> str:
    if gpu["free_gib"] is None:
        return f"{gpu['total_gib']} GiB"
    return f"{gpu['free_gib']} of {gpu['total_gib']} GiB free"


def _quantization_support(has_gpu: bool) -> str:
    from bitsandbytes.cextension import ErrorHandlerMockBNBNativeLibrary, lib

    if isinstance(lib, ErrorHandlerMockBNBNativeLibrary):
        return "bitsandbytes does not support this machine; nf4 and int8 will fail"
    return f"bitsandbytes works on the {'GPU' if has_gpu else 'CPU'}: nf4, int8"


def _available_memory_gib() -> float | None:
    """Return the memory available without swapping, from Linux; None on other systems."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next(
        (_to_gib(1024 * int(line.split()[1])) for line in lines if line.startswith("MemAvailable")),
        None,
    )


def _to_gib(size: int) -> float:
    return round(size / _GIB, 1)


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
