"""Several processes that do one run together, as `torchrun` and `accelerate launch` start them.

A process alone is the first of one: everything here then costs nothing and imports no torch.
Objects travel over gloo on the CPU, whatever carries the gradients.
"""

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")

TIMEOUT = timedelta(hours=12)
"""How long processes wait for the first one, which may have much to judge."""


def world_size() -> int:
    """Return how many processes do this run."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    """Tell whether this process is the one that writes files and speaks to the user."""
    return rank() == 0


def broadcast_from_main(value: T) -> T:
    """Return the first process's value in every process."""
    if world_size() == 1:
        return value
    import torch.distributed

    sent: list[Any] = [value]
    torch.distributed.broadcast_object_list(sent, src=0, group=_gloo_group())
    received: T = sent[0]
    return received


def run_on_main_process(fn: Callable[[], T]) -> T:
    """Do some work in the first process only and return what it gives in every process.

    What it raises is raised in every process: else the others would wait for an answer.
    """
    if world_size() == 1:
        return fn()
    done: Any = None
    fault: Exception | None = None
    if is_main_process():
        try:
            done = fn()
        except Exception as raised:
            fault = raised
    received: T
    received, fault = broadcast_from_main((done, fault))
    if fault is not None:
        raise fault
    return received


def any_rank(flag: bool) -> bool:
    """Tell, in every process, whether any of them says so."""
    if world_size() == 1:
        return flag
    import torch

    told = torch.tensor(int(flag))
    torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX, group=_gloo_group())
    return bool(told)


def gather_to_main(value: T) -> list[T]:
    """Return the values of all processes, in their order, in the first; nothing in the others."""
    if world_size() == 1:
        return [value]
    import torch.distributed

    received: list[Any] | None = [None] * world_size() if is_main_process() else None
    torch.distributed.gather_object(value, received, dst=0, group=_gloo_group())
    return received or []


def _destroy_process_group() -> None:
    """End the threads that talk to other processes; else they abort this one at its end."""
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@cache
def _gloo_group() -> Any:
    """Join the other processes, with the backends of both kinds of device; return the group."""
    import torch.distributed

    if not torch.distributed.is_initialized():
        on_gpu = torch.cuda.is_available()
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
        atexit.register(_destroy_process_group)
    return torch.distributed.new_group(backend="gloo", timeout=TIMEOUT)
