"""Preemption: a scheduler sends SIGTERM to reclaim a machine, and may requeue the run later.

Inside `defer_sigterm` the signal only sets a flag, so that the current step can be saved first.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Preempted(BaseException):
    """The run must end now. Like KeyboardInterrupt, it passes through `except Exception`."""


_requested = threading.Event()
_deferred = threading.Event()


def preemption_requested() -> bool:
    """Return whether this process received SIGTERM."""
    return _requested.is_set()


@contextmanager
def handle_sigterm() -> Iterator[None]:
    """Raise Preempted on SIGTERM inside this context; no effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous_handler = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
        _requested.clear()


@contextmanager
def defer_sigterm() -> Iterator[None]:
    """Only set `preemption_requested` on SIGTERM inside this context; the caller checks it."""
    _deferred.set()
    try:
        yield
    finally:
        _deferred.clear()


def _on_sigterm(signum: int, frame: Any) -> None:
    _requested.set()
    if not _deferred.is_set():
        raise Preempted
