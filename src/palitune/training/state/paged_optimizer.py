"""Paging of a loaded optimizer state: bitsandbytes loads it into plain GPU memory."""

from typing import Any

import torch

_PAGED_STATES = ("state1", "state2")
"""The moments; scales and quantization maps are small and never paged."""


def restore_paging(optimizer: Any) -> None:
    """Move the moments of a paged optimizer back to paged memory; no effect for others.

    Otherwise a resumed training would need more GPU memory than before its interruption.
    """
    if not getattr(optimizer, "is_paged", False):
        return
    for parameter, state in optimizer.state.items():
        for name in _PAGED_STATES:
            values = state[name]
            # bitsandbytes decides which parameters are large enough for paging.
            buffer = optimizer.get_state_buffer(parameter, dtype=values.dtype)
            if parameter.is_cuda:
                torch.cuda.synchronize(parameter.device)  # the buffer is being filled with zeros
            state[name] = buffer.copy_(values)
