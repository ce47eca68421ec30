"""Signals are heard in the main thread, in their order, and only while wanted."""

import os
import signal
import subprocess
import sys
import threading
from signal import Signals

import pytest

from node import signals

WAIT_S = 20.0


def _send(number: Signals) -> None:
    os.kill(os.getpid(), number)


def test_wait_returns_the_signal() -> None:
    with signals.heard(Signals.SIGUSR1) as wait:
        _send(Signals.SIGUSR1)
        assert wait(WAIT_S) is Signals.SIGUSR1


def test_wait_returns_each_in_its_order() -> None:
    with signals.heard(Signals.SIGUSR1, Signals.SIGUSR2) as wait:
        _send(Signals.SIGUSR2)
        assert wait(WAIT_S) is Signals.SIGUSR2
        _send(Signals.SIGUSR1)
        assert wait(WAIT_S) is Signals.SIGUSR1


def test_wait_is_woken_by_a_signal_that_comes_later() -> None:
    with signals.heard(Signals.SIGUSR1) as wait:
        later = threading.Timer(0.05, _send, (Signals.SIGUSR1,))
        later.start()
        assert wait(WAIT_S) is Signals.SIGUSR1
        later.join()


@pytest.mark.parametrize("timeout_s", [0.0, 0.01], ids=["at-once", "soon"])
def test_wait_returns_none_when_nothing_came(timeout_s: float) -> None:
    with signals.heard(Signals.SIGUSR1) as wait:
        assert wait(timeout_s) is None


def test_more_signals_than_can_be_noted_are_no_error() -> None:
    with signals.heard(Signals.SIGUSR1) as wait:
        for _ in range(3000):
            _send(Signals.SIGUSR1)
        assert wait(WAIT_S) is Signals.SIGUSR1


def test_handlers_are_back_afterwards() -> None:
    before = signal.getsignal(Signals.SIGUSR1)
    with signals.heard(Signals.SIGUSR1):
        assert signal.getsignal(Signals.SIGUSR1) is not before
    assert signal.getsignal(Signals.SIGUSR1) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_child_processes_die_of_signals_that_we_hear() -> None:
    with signals.heard(Signals.SIGTERM):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        child.send_signal(Signals.SIGTERM)
        assert child.wait(WAIT_S) == -Signals.SIGTERM
