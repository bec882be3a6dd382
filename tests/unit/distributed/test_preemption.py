"""SIGTERM ends what may be cut off at once, and waits for what may not."""

import os
import signal
import threading

import pytest

from palitune.distributed import preemption


def end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_it_ends_what_is_at_work_and_is_forgotten_afterwards() -> None:
    with pytest.raises(preemption.Preempted), preemption.handle_sigterm():
        end()
    assert not preemption.preemption_requested()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_it_is_only_noted_where_it_is_postponed() -> None:
    with preemption.handle_sigterm():
        with preemption.defer_sigterm():
            end()
            assert preemption.preemption_requested()
        with pytest.raises(preemption.Preempted):
            end()


def test_a_thread_that_gets_no_signals_works_all_the_same() -> None:
    done: list[bool] = []

    def work() -> None:
        with preemption.handle_sigterm():
            done.append(preemption.preemption_requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [False]
