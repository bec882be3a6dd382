"""SIGTERM is how a scheduler takes a machine back: the run ends, and may be started again.

Within `postponed` it is only noted, so that what must not be torn is finished and saved first.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Preempted(BaseException):
    """The run is to end now; like KeyboardInterrupt it passes what handles faults."""


_requested = threading.Event()
_deferred = threading.Event()


def preemption_requested() -> bool:
    """Tell whether this process was asked to end."""
    return _requested.is_set()


@contextmanager
def handle_sigterm() -> Iterator[None]:
    """Have SIGTERM raise Preempted in here; outside the main thread it stays what it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _requested.clear()


@contextmanager
def defer_sigterm() -> Iterator[None]:
    """Have SIGTERM only noted in here: whoever is at work looks at `asked`."""
    _deferred.set()
    try:
        yield
    finally:
        _deferred.clear()


def _on_sigterm(signum: int, frame: Any) -> None:
    _requested.set()
    if not _deferred.is_set():
        raise Preempted
