"""Ask the server nonsense; the rooms behind it are stubs."""

import contextlib
import json
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.errors import Conflict
from node.storage.process import protocol, server
from node.storage.process.protocol import Answer
from node.storage.process.sessions import Sessions
from node.system.leases import Lockspace

END_S = 20.0


@contextlib.contextmanager
def serving(
    path: Path, answer: Callable[[bytes, Callable[[], bool]], Answer]
) -> Iterator[None]:
    made = server.Server(path, answer)
    made.start()
    yield
    made.close()


class Client:
    """A socket that says what it likes."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(END_S)
        self.socket.connect(str(path))
        self.stream = self.socket.makefile("rb")

    def ask(self, line: bytes) -> dict[str, Any]:
        self.socket.sendall(line + b"\n")
        answer: dict[str, Any] = json.loads(self.stream.readline())
        return answer

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


class OddParts:
    """Stands in for the rooms behind the verbs."""

    def leave(self, _lockspace: object, _host_id: int, _check: object) -> None:
        raise Conflict("not now", host_id=1)

    def held(self) -> tuple[()]:
        return ()

    def lost(self) -> tuple[()]:
        raise ZeroDivisionError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("s") / "socket"
    odd: Any = OddParts()
    with serving(path, server.Verbs(odd, odd, odd, odd, Sessions()).answer):
        yield path


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    made = Client(path)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param(b"", "malformed", id="empty"),
        pytest.param(b"garbage \xff\x00", "malformed", id="garbage"),
        pytest.param(b'{"verb"', "malformed", id="half"),
        pytest.param(b"[1]", "malformed", id="a-list"),
        pytest.param(b"{}", "missing_field", id="no-verb"),
        pytest.param(b'{"verb":7}', "malformed", id="verb-is-a-number"),
        pytest.param(b'{"verb":"format"}', "verb_unknown", id="unknown-verb"),
        pytest.param(b'{"verb":"answer"}', "verb_unknown", id="no-verb-but-a-method"),
        pytest.param(b'{"verb":"steps","x":1}', "unknown_field", id="unknown-key"),
        pytest.param(
            b'{"verb":"steps","request":{"x":1}}', "unknown_field", id="unknown-field"
        ),
        pytest.param(b'{"verb":"run"}', "missing_field", id="missing-field"),
        pytest.param(
            b'{"verb":"run","request":{"step_id":1,"argv":[]}}', "malformed", id="type"
        ),
        pytest.param(
            b'{"verb":"run","request":{"step_id":"a","step_id":"b","argv":[]}}',
            "malformed",
            id="twin-field",
        ),
        pytest.param(b"[" * 100_000, "malformed", id="deep"),
    ],
)
def test_answer_refuses_a_bad_line_and_reads_on(
    client: Client, line: bytes, code: str
) -> None:
    answer = client.ask(line)
    assert (answer["error"]["kind"], answer["error"]["code"]) == ("invalid", code)
    assert client.ask(b'{"verb":"format"}')["error"]["code"] == "verb_unknown"


def test_serve_refuses_an_endless_line_and_reads_on(client: Client) -> None:
    answer = client.ask(b"x" * (2 * protocol.LINE_MAX + 5))
    assert answer["error"]["code"] == "line_too_long"
    assert client.ask(b'{"verb":"format"}')["error"]["code"] == "verb_unknown"


def test_answer_tells_an_error_with_its_fields(client: Client) -> None:
    request = {"lockspace": {"name": "a", "path": "/a"}, "host_id": 1}
    line = json.dumps({"verb": "leave", "request": request}).encode()
    error = client.ask(line)["error"]
    assert (error["kind"], error["message"]) == ("conflict", "not now")
    assert error["fields"] == {"host_id": 1}


def test_answer_survives_a_bug(client: Client) -> None:
    answer = client.ask(b'{"verb":"leases"}')
    assert answer["error"]["code"] == "storage_process_broken"
    assert client.ask(b'{"verb":"format"}')["error"]["code"] == "verb_unknown"


def test_serve_survives_a_client_that_hangs_up(path: Path, client: Client) -> None:
    for words in (b"", b"half a line", b'{"verb":"format"}\n'):
        rude = Client(path)
        rude.socket.sendall(words)
        rude.close()
    assert client.ask(b'{"verb":"format"}')["error"]["code"] == "verb_unknown"


def test_server_survives_a_time_without_descriptors(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (
        serving(path, lambda _line, _gone: Answer({})),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as second,
    ):
        # Standard input, output and error are there; nothing is opened any more.
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            # The kernel may have the first one's descriptor ready already.
            for client in (first, second):
                client.connect(str(path))
                client.sendall(b"x\n")
            second.settimeout(0.2)
            with pytest.raises(TimeoutError):
                second.recv(100)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for client in (first, second):
            client.settimeout(END_S)
            assert json.loads(client.recv(100)) == {"result": {}}


def test_serve_answers_in_order(client: Client) -> None:
    lines = [b'{"verb":"v%d"}\n' % number for number in range(100)]
    client.socket.sendall(b"".join(lines))
    for number in range(100):
        assert (
            f"'v{number}'" in json.loads(client.stream.readline())["error"]["message"]
        )


def test_socket_is_only_for_its_owner(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_server_takes_the_place_of_a_dead_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(path, lambda _line, _gone: Answer({"old": 1})):
        pass
    with serving(path, lambda _line, _gone: Answer({"new": 1})):
        client = Client(path)
        assert client.ask(b"x") == {"result": {"new": 1}}
        client.close()


def test_server_refuses_more_connections_than_it_has_room_for(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(path, lambda _line, _gone: Answer({})):
        clients = [Client(path) for _ in range(server.CONNECTIONS_MAX)]
        for client in clients:
            assert client.ask(b"x") == {"result": {}}
        late = Client(path)
        answer = json.loads(late.stream.readline())
        assert answer["error"]["code"] == "too_many_clients"
        for client in (*clients, late):
            client.close()


class SlowLeases:
    """Joins when it is let; tells who came meanwhile."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.began = threading.Event()
        self.may_end = threading.Event()

    def add_lockspace(self, lockspace: Lockspace, host_id: int, _s: int) -> None:
        self.asked.append((lockspace.name, host_id))
        self.began.set()
        if lockspace.name == "slow":
            assert self.may_end.wait(END_S)


def _join(
    verbs: server.Verbs, name: str, host_id: int, *, is_gone: bool = False
) -> threading.Thread:
    at = {"name": name, "path": "/nowhere"}
    request = {"lockspace": at, "host_id": host_id, "io_timeout_s": 10}
    line = json.dumps({"verb": "join", "request": request}).encode()
    thread = threading.Thread(target=verbs.answer, args=(line, lambda: is_gone))
    thread.start()
    return thread


def test_join_waits_for_nobody_who_hung_up() -> None:
    slow: Any = SlowLeases()
    verbs = server.Verbs(slow, slow, slow, slow, Sessions())
    first = _join(verbs, "slow", 2)
    assert slow.began.wait(END_S)
    second = _join(verbs, "slow", 3, is_gone=True)
    second.join(END_S / 2)  # the first one gives up by itself after all of it
    assert not second.is_alive()
    slow.may_end.set()
    first.join(END_S)
    assert slow.asked == [("slow", 2)]


def test_join_waits_while_the_lockspace_is_being_joined() -> None:
    slow: Any = SlowLeases()
    verbs = server.Verbs(slow, slow, slow, slow, Sessions())

    first = _join(verbs, "slow", 2)
    assert slow.began.wait(END_S)
    second = _join(verbs, "slow", 3)
    _join(verbs, "other", 1).join(END_S)  # another lockspace does not wait
    assert slow.asked == [("slow", 2), ("other", 1)]
    slow.may_end.set()
    for each in (first, second):
        each.join(END_S)
    assert slow.asked == [("slow", 2), ("other", 1), ("slow", 3)]
