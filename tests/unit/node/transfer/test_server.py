"""Who connects is served, also after the system had no room for a while."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.clock import SystemClock
from node.transfer.images import Images
from node.transfer.server import Server
from node.transfer.tickets import Tickets

DEADLINE_S = 30.0

Ask = Callable[[], bytes]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    path = tmp_path / "transfer.sock"
    face = Images(Tickets(SystemClock()), str(path))
    made = Server(path, 0o600, face, SystemClock(), connections_max=1)
    yield made
    made.close(DEADLINE_S)


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Return a function that connects, asks once, and returns what it got."""

    def send() -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            caller.settimeout(DEADLINE_S)
            caller.connect(str(tmp_path / "transfer.sock"))
            with contextlib.suppress(ConnectionError):  # it was sent away at once
                caller.sendall(
                    b"OPTIONS /images/* HTTP/1.1\r\nConnection: close\r\n\r\n"
                )
                return caller.recv(64 * 1024)
            return b""

    return send


class Failing:
    """A listener that cannot accept at first: there are no file descriptors left."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._fails = iter([OSError(24, "Too many open files")])

    def accept(self) -> tuple[socket.socket, object]:
        for error in self._fails:
            raise error
        return self._listener.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._listener, name)


def test_accepting_goes_on_after_an_error(
    server: Server, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_listener", Failing(server._listener))
    server.start()
    assert ask().startswith(b"HTTP/1.1 200 ")


def test_place_of_a_client_without_a_thread_is_free_again(
    server: Server, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _no_room)
        assert ask() == b""
    assert ask().startswith(b"HTTP/1.1 200 ")


def _no_room(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
