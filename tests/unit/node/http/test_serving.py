"""Servers on unix sockets: who may connect, a predecessor's remains, the end."""

import contextlib
import grp
import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.http import client, serving
from node.http.client import NodeUnreachable, Reply
from node.http.serving import Application, Server

WAIT_S = 20.0
_GROUP = grp.getgrgid(os.getgid()).gr_name


def _says(text: bytes) -> Application:
    def application(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", str(len(text)))])
        return [text]

    return application


def _ask(path: Path, target: str = "/") -> Reply:
    return client.UnixTransport(path).exchange("GET", target, None, {}, WAIT_S)


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that end with the test."""
    with contextlib.ExitStack() as ends:

        def start(path: Path, application: Application, **more: Any) -> Server:
            server = Server(path, application, more.pop("threads", 2), **more)
            server.start()
            ends.callback(server.stop)
            return server

        yield start


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_server_answers(serve: Serve, tmp_path: Path) -> None:
    serve(tmp_path / "run" / "s", _says(b"hello"))
    assert _ask(tmp_path / "run" / "s").body == b"hello"


def test_server_lets_only_its_owner_connect(serve: Serve, tmp_path: Path) -> None:
    serve(tmp_path / "s", _says(b""))
    assert _mode(tmp_path / "s") == 0o600


def test_server_lets_a_group_connect_too(serve: Serve, tmp_path: Path) -> None:
    serve(tmp_path / "s", _says(b""), group=_GROUP)
    assert _mode(tmp_path / "s") == 0o660
    assert (tmp_path / "s").stat().st_gid == os.getgid()


def test_server_replaces_the_socket_of_a_killed_predecessor(
    serve: Serve, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
    serve(tmp_path / "s", _says(b"new"))
    assert _ask(tmp_path / "s").body == b"new"


def test_servers_of_one_process_keep_apart(serve: Serve, tmp_path: Path) -> None:
    first = serve(tmp_path / "a", _says(b"a"))
    serve(tmp_path / "b", _says(b"b"))
    first.stop()
    assert _ask(tmp_path / "b").body == b"b"


def test_server_keeps_the_headers_that_nginx_sets(serve: Serve, tmp_path: Path) -> None:
    def application(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        body = str(environ.get("HTTP_X_SKERRY_ROLE")).encode()
        start("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    serve(tmp_path / "s", application)
    transport = client.UnixTransport(tmp_path / "s")
    headers = {"X-Skerry-Role": "node"}
    assert transport.exchange("GET", "/", None, headers, WAIT_S).body == b"node"


def test_server_answers_beyond_a_thousand_descriptors(
    serve: Serve, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this machine allows too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        serve(tmp_path / "s", _says(b"hello"))
        assert _ask(tmp_path / "s").body == b"hello"
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_stop_answers_what_is_under_way_and_takes_no_more(tmp_path: Path) -> None:
    is_asked, may_answer = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        is_asked.set()
        may_answer.wait(WAIT_S)
        return _says(b"late")(environ, start)

    server = Server(tmp_path / "s", slow, 2)
    server.start()
    replies: list[Reply] = []
    asking = threading.Thread(target=lambda: replies.append(_ask(tmp_path / "s")))
    asking.start()
    assert is_asked.wait(WAIT_S)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    _await_refusal(tmp_path / "s")
    may_answer.set()
    asking.join(WAIT_S)
    stopping.join(WAIT_S)
    assert [reply.body for reply in replies] == [b"late"]


def test_waiting_counts_requests_that_no_thread_has(
    serve: Serve, tmp_path: Path
) -> None:
    is_asked, may_answer = threading.Event(), threading.Event()

    def slow(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        is_asked.set()
        may_answer.wait(WAIT_S)
        return _says(b"late")(environ, start)

    server = serve(tmp_path / "s", slow, threads=1)
    asking = [
        threading.Thread(target=_ask, args=[tmp_path / "s"], daemon=True)
        for _ in range(3)
    ]
    for thread in asking:
        thread.start()
    assert is_asked.wait(WAIT_S)
    ticks = threading.Event()
    for _ in range(200):
        if server.waiting() == 2:
            break
        ticks.wait(0.05)
    assert server.waiting() == 2
    may_answer.set()
    for thread in asking:
        thread.join(WAIT_S)
    assert server.waiting() == 0


def _await_refusal(path: Path) -> None:
    """Wait until nobody listens; an accepted connection waits for its end."""
    for _ in range(100):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(0.1)
            try:
                caller.connect(str(path))
                caller.recv(1)
            except TimeoutError:
                continue
            except OSError:
                return
    raise AssertionError("it still takes connections")


def test_stop_closes_a_server_that_was_never_started(tmp_path: Path) -> None:
    Server(tmp_path / "s", _says(b""), 1).stop()
    with pytest.raises(NodeUnreachable):
        _ask(tmp_path / "s")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        pytest.param("/", b"pages", id="root"),
        pytest.param("/v1", b"api", id="the-prefix"),
        pytest.param("/v1/vms", b"api", id="below"),
        pytest.param("/v1x", b"pages", id="only-alike"),
        pytest.param("/ui/v1/vms", b"pages", id="elsewhere"),
        pytest.param("/v1?x=/api", b"api", id="with-a-query"),
        pytest.param("/api/v1", b"ovirt", id="another-prefix"),
    ],
)
def test_by_prefix_chooses_by_the_begin_of_the_path(
    serve: Serve, tmp_path: Path, target: str, expected: bytes
) -> None:
    others = {"/v1": _says(b"api"), "/api": _says(b"ovirt")}
    serve(tmp_path / "s", serving.by_prefix(_says(b"pages"), others))
    assert _ask(tmp_path / "s", target).body == expected
