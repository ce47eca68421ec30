"""Calls that hang: bounded, left behind, and refused until they return."""

import threading

import pytest

from node.system.hypervisor import DomainStuck, TooManyStuck
from node.system.hypervisor_calls import Calls


class _Hanging:
    """A call that returns when the test lets it."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.has_returned = threading.Event()

    def __call__(self) -> str:
        self.let_go.wait(30)
        self.has_returned.set()
        return "late"


def test_call_returns_what_the_function_returns() -> None:
    assert Calls("test").call("a", 5, lambda: 7) == 7


def test_call_raises_what_the_function_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        Calls("test").call("a", 5, lambda: 1 // 0)


def test_call_gives_up_at_its_deadline() -> None:
    hanging = _Hanging()
    with pytest.raises(DomainStuck, match=r"within 0\.05 s"):
        Calls("test").call("a", 0.05, hanging)
    hanging.let_go.set()


def test_call_refuses_a_key_whose_call_hangs() -> None:
    calls, hanging = Calls("test"), _Hanging()
    with pytest.raises(DomainStuck):
        calls.call("a", 0.05, hanging)
    with pytest.raises(DomainStuck, match="call before this"):
        calls.call("a", 5, lambda: 7)
    assert calls.call("b", 5, lambda: 7) == 7
    hanging.let_go.set()


def test_call_takes_a_key_again_when_its_call_has_returned() -> None:
    calls, hanging = Calls("test"), _Hanging()
    with pytest.raises(DomainStuck):
        calls.call("a", 0.05, hanging)
    hanging.let_go.set()
    hanging.has_returned.wait(5)
    assert _eventually(calls) == 7


def _eventually(calls: Calls) -> int:
    """Return the reply when the thread has put down its own, which is soon."""
    for attempt in range(1000):
        try:
            return calls.call("a", 5, lambda: 7)
        except DomainStuck:
            calls.call(f"breath {attempt}", 5, lambda: None)
    raise AssertionError("the key is still refused")


def test_call_refuses_at_once_when_all_slots_hang() -> None:
    calls, hanging = Calls("test"), _Hanging()
    for key in range(4):
        with pytest.raises(DomainStuck):
            calls.call(key, 0.02, hanging)
    with pytest.raises(TooManyStuck):
        calls.call("one more", 60, lambda: 7)
    hanging.let_go.set()
