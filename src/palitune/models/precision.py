"""Warning about a precision that a device only emulates."""

import logging

import torch

_log = logging.getLogger(__name__)


def cpu_computes_bf16() -> bool:
    """Return whether the CPU has instructions for bf16 (AVX512-BF16 or AMX)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in checks)


def warn_of_emulated_precision(device: torch.device, dtype: torch.dtype) -> None:
    """Log a warning if the device computes in this dtype only by conversion."""
    if device.type == "cpu" and dtype == torch.float16:
        _log.warning("model.dtype=fp16 is slow on a CPU; set model.dtype=fp32")
    if device.type == "cpu" and dtype == torch.bfloat16 and not cpu_computes_bf16():
        _log.warning(
            "model.dtype=bf16: this CPU has no bf16 instructions and is up to 150 times slower "
            "with it; set model.dtype=fp32"
        )
