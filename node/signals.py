"""Wait for a signal in the main thread, without blocking it for child processes."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Wait = Callable[[float], signal.Signals | None]


@contextmanager
def heard(*numbers: signal.Signals) -> Iterator[Wait]:
    """Yield a function that waits so many seconds for one of the signals."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        before = {number: signal.signal(number, _note) for number in numbers}
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def wait(timeout_s: float) -> signal.Signals | None:
            reader.settimeout(timeout_s)
            try:
                return signal.Signals(reader.recv(1)[0])
            except (TimeoutError, BlockingIOError):  # the latter: no time at all
                return None

        try:
            yield wait
        finally:
            signal.set_wakeup_fd(previous)
            for number, handler in before.items():
                signal.signal(number, handler)


def _note(_number: int, _frame: object) -> None:
    """Do nothing: the number was written to the socket before."""
