"""SIGTERM raises Preempted at once, or sets a flag while it is deferred."""

import os
import signal
import threading

import pytest

from palitune.distributed import preemption


def send_sigterm() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_raises_and_is_reset_afterwards() -> None:
    with pytest.raises(preemption.Preempted), preemption.handle_sigterm():
        send_sigterm()
    assert not preemption.preemption_requested()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_deferred_sigterm_only_sets_the_flag() -> None:
    with preemption.handle_sigterm():
        with preemption.defer_sigterm():
            send_sigterm()
            assert preemption.preemption_requested()
        with pytest.raises(preemption.Preempted):
            send_sigterm()


def test_the_handler_has_no_effect_outside_the_main_thread() -> None:
    requested: list[bool] = []

    def run() -> None:
        with preemption.handle_sigterm():
            requested.append(preemption.preemption_requested())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert requested == [False]
