"""Preemption: a scheduler sends SIGTERM to reclaim a machine, and may requeue the run later.

Inside `defer_sigterm` the signal only sets a flag, so that the current step can be saved first. The
same holds for the first Ctrl-C; the second one interrupts at once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Preempted(BaseException):
    """The run must end now. Like KeyboardInterrupt, it passes through `except Exception`."""


_SAVING_NOTICE = "\nsaving the current step; press Ctrl-C again to stop without it\n"

_requested = threading.Event()
_interrupted = threading.Event()
_deferred = threading.Event()


def preemption_requested() -> bool:
    """Return whether this process received SIGTERM, or Ctrl-C while it was deferred."""
    return _requested.is_set()


def interrupt_requested() -> bool:
    """Return whether the request to end came from Ctrl-C."""
    return _interrupted.is_set()


@contextmanager
def handle_sigterm() -> Iterator[None]:
    """Raise Preempted on SIGTERM inside this context; no effect outside the main thread.

    Ctrl-C raises KeyboardInterrupt as usual, unless it is deferred.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous_handler = signal.signal(signal.SIGTERM, _on_sigterm)
    previous_interrupt = signal.signal(signal.SIGINT, _on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
        signal.signal(signal.SIGINT, previous_interrupt)
        _requested.clear()
        _interrupted.clear()


@contextmanager
def defer_sigterm() -> Iterator[None]:
    """Only set `preemption_requested` on SIGTERM or Ctrl-C inside this context.

    The caller checks it.
    """
    _deferred.set()
    try:
        yield
    finally:
        _deferred.clear()


def _on_interrupt(signum: int, frame: Any) -> None:
    if not _deferred.is_set() or _interrupted.is_set():
        raise KeyboardInterrupt
    _interrupted.set()
    _requested.set()
    # A signal handler must not use buffered streams, which may be in use.
    os.write(2, _SAVING_NOTICE.encode())


def _on_sigterm(signum: int, frame: Any) -> None:
    _requested.set()
    if not _deferred.is_set():
        raise Preempted
