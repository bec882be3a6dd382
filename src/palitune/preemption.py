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


_asked = threading.Event()
_waits = threading.Event()


def asked() -> bool:
    """Tell whether this process was asked to end."""
    return _asked.is_set()


@contextmanager
def heard() -> Iterator[None]:
    """Have SIGTERM raise Preempted in here; outside the main thread it stays what it is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()


@contextmanager
def postponed() -> Iterator[None]:
    """Have SIGTERM only noted in here: whoever is at work looks at `asked`."""
    _waits.set()
    try:
        yield
    finally:
        _waits.clear()


def _note(number: int, frame: Any) -> None:
    _asked.set()
    if not _waits.is_set():
        raise Preempted
