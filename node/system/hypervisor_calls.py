"""Make calls that may hang, a bounded number at once, each with a deadline.

A thread that waits for a hanging call is left behind: it ends when the call
does, and keeps its place until then.
"""

import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from node.system.hypervisor import DomainStuck, TooManyStuck

T = TypeVar("T")

_SLOTS = 4  # one less than libvirtd reads of one client before it is answered


class Calls:
    """Make calls in threads that may be left behind, a bounded number at once.

    A key whose call overran its deadline is refused until that call returns.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._slots = threading.BoundedSemaphore(_SLOTS)
        # Never changed in place: a race at most forgets an entry, not a slot.
        self._overdue: Mapping[Hashable, Future[Any]] = {}

    def call(self, key: Hashable, deadline_s: float, function: Callable[[], T]) -> T:
        """Return what the function does; DomainStuck, TooManyStuck, and its errors."""
        self._overdue = {
            each: reply for each, reply in self._overdue.items() if not reply.done()
        }
        if key in self._overdue:
            raise DomainStuck("QEMU has not answered the call before this one")
        if len(self._overdue) >= _SLOTS or not self._slots.acquire(timeout=deadline_s):
            raise TooManyStuck("too many VMs do not answer")
        reply: Future[T] = Future()
        thread = threading.Thread(
            target=self._run,
            args=(reply, function),
            name=f"libvirt-{self._name}",
            daemon=True,
        )
        thread.start()
        try:
            return reply.result(deadline_s)
        except TimeoutError as error:
            self._overdue = {**self._overdue, key: reply}
            raise DomainStuck(
                f"QEMU or libvirt did not answer within {deadline_s:g} s",
                deadline_s=deadline_s,
            ) from error

    def _run(self, reply: "Future[T]", function: Callable[[], T]) -> None:
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
            reply.set_exception(error)
        else:
            reply.set_result(result)
        finally:
            self._slots.release()
