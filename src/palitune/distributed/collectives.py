"""Collectives over the processes that `torchrun`, `accelerate launch` or `palitune` started.

In a run of one process every function returns at once, without importing torch. Objects are sent
over gloo on the CPU, whatever backend reduces the gradients.
"""

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

TIMEOUT = timedelta(hours=12)
"""Longest wait for another process; the main process may compute metrics for hours."""


def world_size() -> int:
    """Return the number of processes of this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    """Return whether this is process 0, which writes files and prints."""
    return rank() == 0


def broadcast_from_main(value: T) -> T:
    """Return the main process's value in every process."""
    if world_size() == 1:
        return value
    import torch.distributed

    values: list[Any] = [value]
    torch.distributed.broadcast_object_list(values, src=0, group=_gloo_group())
    received: T = values[0]
    return received


def run_on_main_process(fn: Callable[[], T]) -> T:
    """Call a function in the main process only and return its result in every process.

    An exception is raised in every process, so that none waits for a result that never comes.
    """
    if world_size() == 1:
        return fn()
    result: Any = None
    failure: Exception | None = None
    if is_main_process():
        try:
            result = fn()
        except Exception as error:
            failure = error
    received: T
    received, failure = broadcast_from_main((result, failure))
    if failure is not None:
        raise failure
    return received


def any_rank(flag: bool) -> bool:
    """Return, in every process, whether the flag is set in any of them."""
    if world_size() == 1:
        return flag
    import torch

    flags = torch.tensor(int(flag))
    torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX, group=_gloo_group())
    return bool(flags)


def gather_to_main(value: T) -> list[T]:
    """Return the values of all processes by rank in the main process, an empty list in others."""
    if world_size() == 1:
        return [value]
    import torch.distributed

    received: list[Any] | None = [None] * world_size() if is_main_process() else None
    torch.distributed.gather_object(value, received, dst=0, group=_gloo_group())
    return received or []


def _destroy_process_group() -> None:
    """Stop the communication threads, which would otherwise abort the process at its exit."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@cache
def _gloo_group() -> Any:
    """Initialize torch.distributed for CPU and GPU tensors if needed; return a gloo group."""
    import torch.distributed

    if not torch.distributed.is_initialized():
        has_gpu = torch.cuda.is_available()
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if has_gpu else "gloo")
        atexit.register(_destroy_process_group)
    return torch.distributed.new_group(backend="gloo", timeout=TIMEOUT)
