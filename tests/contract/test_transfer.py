"""oVirt's own client, and rude ones, against the transfer server behind a real nginx.

The images are served by real qemu-nbds, in folders of the test.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from ovirt_imageio import client

from node.errors import Error, NotFound
from node.transfer.tickets import Op
from node.units import KiB, MiB
from tests.contract import transfers
from tests.contract.transfers import DEADLINE_S, Place, qemu_img, wait_until

pytestmark = [
    pytest.mark.real,
    # oVirt's client leaves its own connections to the collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket.*imageio-:ResourceWarning"),
]
SIZE = 32 * MiB
DATA = os.urandom(3 * MiB)
ZEROES = bytes(MiB)
FRONT = "front"
SOCKET = "socket"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with transfers.running(tmp_path_factory.mktemp("t")) as found:
        yield found


@pytest.fixture
def image(place: Place) -> Iterator[Path]:
    """Return a raw image that a qemu-nbd serves, with data in the middle."""
    path = place.folder / "image.raw"
    write_raw(path)
    with transfers.exporting(path, "raw"):
        yield path
    path.unlink()


@pytest.fixture
def address(place: Place, image: Path) -> Iterator[str]:
    """Return the address of a ticket for the image, which may do everything."""
    yield place.install("t1", SIZE)
    place.tickets.remove("t1")


def write_raw(path: Path) -> None:
    path.write_bytes(b"")
    os.truncate(path, SIZE)
    with path.open("r+b") as file:
        file.seek(8 * MiB)
        file.write(DATA)


class Caller:
    """A connection through nginx, or to the socket behind it."""

    def __init__(self, place: Place, way: str = FRONT) -> None:
        self.connection = http.client.HTTPConnection("localhost", timeout=DEADLINE_S)
        if way == SOCKET:
            plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            plain.connect(str(place.socket))
            self.connection.sock = plain
        else:
            plain = socket.create_connection(("127.0.0.1", place.port))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.connection.sock = context.wrap_socket(plain)
        self.sock = self.connection.sock
        self.sock.settimeout(DEADLINE_S)

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPResponse]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, dict):
            body = json.dumps(body)
        self.connection.request(method, path, body, named)
        reply = self.connection.getresponse()
        return reply.status, reply.read(), reply

    def close(self) -> None:
        self.connection.close()
        self.sock.close()


class Meet(Protocol):
    def __call__(self, way: str = FRONT) -> Caller: ...


@pytest.fixture
def meet(place: Place) -> Iterator[Meet]:
    """Return what makes callers, which end with the test."""
    made: list[Caller] = []

    def make(way: str = FRONT) -> Caller:
        made.append(Caller(place, way))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=[FRONT, SOCKET])
def caller(request: pytest.FixtureRequest, meet: Meet) -> Caller:
    return meet(request.param)


@pytest.mark.parametrize("is_local", [False, True], ids=["nginx", "unix-socket"])
@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_ovirts_client_uploads_and_downloads(
    place: Place,
    disk_format: str,
    is_local: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not is_local:
        kind: Any = client._api.http.Backend
        monkeypatch.setattr(kind, "_optimize_connection", lambda _self, _path: None)
    source, target = place.folder / "source.raw", place.folder / "target"
    write_raw(source)
    qemu_img("create", "-q", "-f", disk_format, target, SIZE)
    with transfers.exporting(target, disk_format):
        url = place.install("up", SIZE, (Op.WRITE,))
        client.upload(str(source), url, None, secure=False)
        info = place.tickets.info("up")
        assert (info.transferred, info.active) == (SIZE, False)
        place.tickets.remove("up")
    assert "identical" in qemu_img("compare", source, target)
    copy = place.folder / "copy.qcow2"
    with transfers.exporting(target, disk_format, "--read-only"):
        url = place.install("down", SIZE, (Op.READ,))
        client.download(url, str(copy), None, secure=False)
        info = place.tickets.info("down")
        # Holes are not fetched, but for what a file system leaves around data.
        assert info.transferred is not None
        assert len(DATA) <= info.transferred < SIZE
        place.tickets.remove("down")
    assert "identical" in qemu_img("compare", source, copy)


def test_ovirts_client_sees_what_qemu_sees(address: str, image: Path) -> None:
    with client.ImageioClient(address, secure=False) as found:
        assert (found.max_readers, found.max_writers) == (8, 8)
        assert found.size() == SIZE
        seen = [each.to_dict() for each in found.extents()]
    with contextlib.closing(client.extents(str(image))) as local:
        assert seen == [each.to_dict() for each in local]


def test_ovirts_client_sees_the_holes_of_a_top_volume(place: Place) -> None:
    lower, top = place.folder / "lower.qcow2", place.folder / "top.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", lower, SIZE)
    qemu_img("create", "-q", "-f", "qcow2", "-b", lower, "-F", "qcow2", top)
    with transfers.exporting(top, "qcow2"):
        url = place.install("low", SIZE)
        with client.ImageioClient(url, secure=False) as found:
            found.write(0, b"x" * 64 * KiB)
            found.zero(MiB, MiB)
            found.flush()
        place.tickets.remove("low")
    with exporting_top(top):
        url = place.install("top", SIZE)
        with client.ImageioClient(url, secure=False) as found:
            holes = [(each.start, each.hole) for each in found.extents()]
        place.tickets.remove("top")
    assert holes == [(0, False), (64 * KiB, True), (MiB, False), (2 * MiB, True)]


@contextlib.contextmanager
def exporting_top(path: Path) -> Iterator[None]:
    """Serve a volume without what lies beneath it."""
    opened = {
        "driver": "qcow2",
        "backing": None,
        "file": {"driver": "file", "filename": str(path)},
    }
    where = path.parent / "nbd.sock"
    words = ["-t", "--shared=8", "-A", "-r", "-k", str(where)]
    log = path.parent / "top.log"
    argv = ["qemu-nbd", *words, f"json:{json.dumps(opened)}"]
    with transfers.started(argv, log) as export:
        wait_until(where.exists, export)
        yield
    where.unlink(missing_ok=True)


def test_checksum_is_that_of_ovirts_client(
    address: str, image: Path, caller: Caller
) -> None:
    status, body, _ = caller.ask("GET", "/images/t1/checksum")
    assert (status, json.loads(body)) == (200, client.checksum(str(image)))
    query = "algorithm=sha256&block_size=1048576"
    status, body, _ = caller.ask("GET", f"/images/t1/checksum?{query}")
    expected = client.checksum(str(image), algorithm="sha256", block_size=MiB)
    assert (status, json.loads(body)) == (200, expected)


def test_dirty_extents_are_those_of_the_bitmap(place: Place, meet: Meet) -> None:
    path = place.folder / "dirty.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", path, SIZE)
    qemu_img("bitmap", "--add", path, "b0")
    with transfers.exporting(path, "qcow2"):
        url = place.install("w", SIZE)
        with client.ImageioClient(url, secure=False) as found:
            found.write(4 * MiB, b"x" * 64 * KiB)
        place.tickets.remove("w")
    with transfers.exporting(path, "qcow2", "--read-only", "--bitmap=b0"):
        url = place.install("d", SIZE, (Op.READ,), dirty=True)
        with client.ImageioClient(url, secure=False) as found:
            dirty = [each for each in found.extents("dirty") if each.dirty]
        place.install("z", SIZE, (Op.READ,))
        assert meet().ask("GET", "/images/z/extents?context=dirty")[0] == 404
        for each in ("d", "z"):
            place.tickets.remove(each)
    assert [(each.start, each.length) for each in dirty] == [(4 * MiB, 64 * KiB)]


def test_get_answers_ranges(address: str, caller: Caller) -> None:
    start = 8 * MiB + 5
    wanted = f"bytes={start}-{start + 99}"
    status, body, reply = caller.ask("GET", "/images/t1", Range=wanted)
    assert (status, body) == (206, DATA[5:105])
    assert reply.headers["Content-Range"] == f"bytes {start}-{start + 99}/{SIZE}"
    status, body, _ = caller.ask("GET", "/images/t1", Range=f"bytes={SIZE - 7}-")
    assert (status, body) == (206, bytes(7))
    status, body, _ = caller.ask("GET", "/images/t1")
    assert (status, len(body)) == (200, SIZE)
    assert body[8 * MiB :][: len(DATA)] == DATA


def test_put_writes_where_it_is_told(address: str, image: Path, caller: Caller) -> None:
    path, place_ = "/images/t1?flush=n", "bytes 4096-4099/*"
    assert caller.ask("PUT", path, b"abcd", Content_Range=place_)[:2] == (200, b"")
    zero = {"op": "zero", "offset": 8 * MiB, "size": MiB, "flush": True}
    assert caller.ask("PATCH", "/images/t1", zero)[0] == 200
    assert caller.ask("PATCH", "/images/t1", {"op": "flush"})[0] == 200
    data = image.read_bytes()
    assert data[4096:4100] == b"abcd"
    assert data[8 * MiB : 9 * MiB] == bytes(MiB)
    assert data[9 * MiB : 9 * MiB + 10] == DATA[MiB : MiB + 10]


WRONG = {
    "unknown-ticket": ("GET", "/images/other", None, {}, 403),
    "no-ticket": ("GET", "/images/", None, {}, 404),
    "nothing": ("GET", "/", None, {}, 404),
    "method": ("DELETE", "/images/t1", None, {}, 405),
    "head": ("POST", "/images/t1", b"x", {}, 405),
    "beyond": ("GET", "/images/t1", None, {"Range": f"bytes=0-{SIZE}"}, 416),
    "after": ("GET", "/images/t1", None, {"Range": f"bytes={SIZE}-"}, 416),
    "suffix": ("GET", "/images/t1", None, {"Range": "bytes=-5"}, 416),
    "put-beyond": (
        *("PUT", "/images/t1", b"xx"),
        {"Content_Range": f"bytes {SIZE - 1}-{SIZE}/*"},
        416,
    ),
    "put-where": ("PUT", "/images/t1", b"xx", {"Content_Range": "bytes 1"}, 400),
    "put-flush": ("PUT", "/images/t1?flush=maybe", b"x", {}, 400),
    "patch-op": ("PATCH", "/images/t1", {"op": "trim"}, {}, 400),
    "patch-size": ("PATCH", "/images/t1", {"op": "zero"}, {}, 400),
    "patch-truth": ("PATCH", "/images/t1", {"op": "zero", "size": True}, {}, 400),
    "patch-beyond": ("PATCH", "/images/t1", {"op": "zero", "size": SIZE + 1}, {}, 416),
    "patch-text": ("PATCH", "/images/t1", b"zero", {}, 400),
    "context": ("GET", "/images/t1/extents?context=all", None, {}, 400),
    "algorithm": ("GET", "/images/t1/checksum?algorithm=crc", None, {}, 400),
    "block": ("GET", "/images/t1/checksum?block_size=1", None, {}, 400),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_and_changes_nothing(
    address: str, image: Path, caller: Caller, wrong: tuple[Any, ...]
) -> None:
    before = image.read_bytes()
    method, path, body, headers, expected = wrong
    status, text, reply = caller.ask(method, path, body, **headers)
    assert status == expected
    assert text.endswith(b".\n")
    if expected == 416 and "bytes=-" not in str(headers):
        assert reply.headers["Content-Range"] == f"bytes */{SIZE}"
    assert image.read_bytes() == before


def test_a_ticket_to_read_does_not_write(place: Place, image: Path, meet: Meet) -> None:
    place.install("r", SIZE, (Op.READ,))
    status, _, reply = meet().ask("OPTIONS", "/images/r")
    assert (status, reply.headers["Allow"]) == (200, "OPTIONS,GET")
    assert meet().ask("PUT", "/images/r", b"x")[0] == 403
    zero = {"op": "zero", "size": 1}
    assert meet().ask("PATCH", "/images/r", zero)[0] == 403
    place.tickets.remove("r")


def test_options_tell_browsers_that_they_may(address: str, caller: Caller) -> None:
    asked = {
        "Origin": "https://a.example",
        "Access_Control_Request_Method": "PUT",
        "Access_Control_Request_Headers": "content-range",
    }
    status, body, reply = caller.ask("OPTIONS", "/images/t1", **asked)
    assert status == 200
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert reply.headers["Access-Control-Allow-Headers"] == "*"
    assert "PUT" in reply.headers["Access-Control-Allow-Methods"]
    assert set(json.loads(body)["features"]) >= {"extents", "zero", "flush"}
    # A page also reads what went wrong.
    status, _, reply = caller.ask("PUT", "/images/no", b"", Origin="https://a.example")
    assert (status, reply.headers["Access-Control-Allow-Origin"]) == (403, "*")


def test_a_connection_is_kept_until_it_is_to_be_closed(
    address: str, place: Place, meet: Meet
) -> None:
    caller = meet(SOCKET)
    for _ in range(3):
        caller.ask("PUT", "/images/t1", b"x")
        assert caller.connection.sock is caller.sock
    caller.sock.sendall(b"GET /images/t1?close=y HTTP/1.1\r\n\r\n")
    answer = b""
    while piece := caller.sock.recv(MiB):  # to the end
        answer += piece
    assert b"\r\nConnection: close\r\n" in answer


def test_an_upload_that_breaks_off_leaves_what_came(
    address: str, place: Place, image: Path, meet: Meet
) -> None:
    caller = meet(SOCKET)
    head = f"PUT /images/t1 HTTP/1.1\r\nContent-Length: {16 * MiB}\r\n\r\n"
    caller.sock.sendall(head.encode() + DATA[: 2 * MiB])
    caller.sock.shutdown(socket.SHUT_WR)
    assert caller.sock.recv(12) == b"HTTP/1.1 400"
    assert image.read_bytes()[: 2 * MiB] == DATA[: 2 * MiB]
    info = place.tickets.info("t1")
    assert (info.active, info.ranges[0]) == (False, (0, 2 * MiB))
    rest = f"bytes {2 * MiB}-*/*"
    again = meet()
    assert again.ask("PUT", "/images/t1", DATA[2 * MiB :], Content_Range=rest)[0] == 200
    assert image.read_bytes()[: 3 * MiB] == DATA


def test_a_large_upload_is_kept_nowhere(place: Place, meet: Meet) -> None:
    path = place.folder / "large.raw"
    path.touch()
    os.truncate(path, 512 * MiB)
    with transfers.exporting(path, "raw"):
        place.install("large", 512 * MiB)
        before = [highest(each) for each in (place.server.pid, *workers(place))]
        caller = meet()
        pieces = (DATA[:MiB] for _ in range(512))
        length = str(512 * MiB)
        status = caller.ask("PUT", "/images/large", pieces, Content_Length=length)[0]
        assert status == 200
        after = [highest(each) for each in (place.server.pid, *workers(place))]
        place.tickets.remove("large")
    assert sum(after) - sum(before) < 50 * MiB
    assert not [
        each
        for name in ("nginx-body", "nginx-proxy")
        for each in (place.folder / name).rglob("*")
        if each.is_file()
    ]
    path.unlink()


def highest(pid: int) -> int:
    """Return the most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(each for each in status.splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) * KiB


def workers(place: Place) -> list[int]:
    pid = place.nginx.pid
    return [
        int(each)
        for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]


def test_removing_a_ticket_ends_its_upload(
    place: Place, image: Path, meet: Meet
) -> None:
    place.install("gone", SIZE)
    caller = meet()
    head = f"PUT /images/gone HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n"
    caller.sock.sendall(head.encode() + DATA)
    wait_until(lambda: place.tickets.info("gone").active)
    begin = time.monotonic()
    place.tickets.remove("gone")
    assert time.monotonic() - begin < 15
    assert caller.sock.recv(12) == b"HTTP/1.1 403"
    with pytest.raises(NotFound):
        place.tickets.info("gone")
    place.install("gone", SIZE)
    assert meet().ask("PUT", "/images/gone", DATA)[0] == 200
    place.tickets.remove("gone")


def test_removing_a_ticket_ends_an_upload_that_never_waits(
    place: Place, meet: Meet
) -> None:
    path, size = place.folder / "fast.raw", 64 * 1024 * MiB
    path.touch()
    os.truncate(path, size)
    caller = meet(SOCKET)

    def send() -> None:
        head = f"PUT /images/fast HTTP/1.1\r\nContent-Length: {size}\r\n\r\n"
        with contextlib.suppress(OSError):
            caller.sock.sendall(head.encode())
            while True:
                caller.sock.sendall(ZEROES)

    with transfers.exporting(path, "raw", "--detect-zeroes=unmap"):
        place.install("fast", size)
        sender = threading.Thread(target=send)
        sender.start()
        wait_until(lambda: place.tickets.info("fast").ranges)
        begin = time.monotonic()
        place.tickets.remove("fast")
        assert time.monotonic() - begin < 15
        assert caller.sock.recv(12) == b"HTTP/1.1 403"
        sender.join(DEADLINE_S)
        assert not sender.is_alive()
    path.unlink()


def test_a_killed_qemu_nbd_ends_its_requests_and_another_takes_over(
    place: Place, meet: Meet
) -> None:
    path = place.folder / "killed.raw"
    write_raw(path)
    place.install("k", SIZE)
    caller = meet()
    with transfers.exporting(path, "raw") as export:
        assert caller.ask("GET", "/images/k", Range="bytes=0-9")[0] == 206
        head = f"PUT /images/k HTTP/1.1\r\nHost: h\r\nContent-Length: {SIZE}\r\n\r\n"
        caller.sock.sendall(head.encode() + DATA[:MiB])
        wait_until(lambda: place.tickets.info("k").active)
        export.kill()
        export.wait(DEADLINE_S)
        caller.sock.sendall(DATA)
        assert caller.sock.recv(12) == b"HTTP/1.1 503"
    assert meet().ask("GET", "/images/k")[0] == 503
    assert not place.tickets.info("k").active
    with transfers.exporting(path, "raw"):
        assert meet().ask("PUT", "/images/k", DATA)[0] == 200
    place.tickets.remove("k")


def test_a_frozen_qemu_nbd_holds_a_removal_until_it_is_killed(
    place: Place, meet: Meet
) -> None:
    path = place.folder / "frozen.raw"
    write_raw(path)
    place.install("f", SIZE)
    failed: list[Error] = []
    caller = meet(SOCKET)
    with transfers.exporting(path, "raw") as export:
        assert caller.ask("GET", "/images/f", Range="bytes=0-9")[0] == 206
        export.send_signal(signal.SIGSTOP)
        caller.sock.sendall(b"GET /images/f HTTP/1.1\r\n\r\n")
        wait_until(lambda: place.tickets.info("f").active)

        def remove() -> None:
            try:
                place.tickets.remove("f")
            except Error as error:
                failed.append(error)

        remover = threading.Thread(target=remove)
        remover.start()
        wait_until(lambda: place.tickets.info("f").canceled)
        assert remover.is_alive()
        export.kill()
        remover.join(DEADLINE_S)
        assert not remover.is_alive()
    assert not failed
    assert caller.sock.recv(12) in (b"HTTP/1.1 403", b"HTTP/1.1 503")


def test_writers_beyond_the_limit_are_sent_away(place: Place, meet: Meet) -> None:
    path = place.folder / "shared.raw"
    write_raw(path)
    with transfers.exporting(path, "raw", shared=1):
        place.install("s", SIZE)
        assert json.loads(meet().ask("OPTIONS", "/images/s")[1])["max_writers"] == 1
        first = meet(SOCKET)
        head = f"PUT /images/s HTTP/1.1\r\nContent-Length: {2 * MiB}\r\n\r\n"
        first.sock.sendall(head.encode() + DATA[:MiB])
        wait_until(lambda: place.tickets.info("s").active)
        assert meet().ask("PUT", "/images/s", b"x")[0] == 423
        first.sock.sendall(DATA[:MiB])
        assert first.sock.recv(12) == b"HTTP/1.1 200"
        assert meet().ask("PUT", "/images/s", b"x")[0] == 200
        place.tickets.remove("s")


RUDE = {
    "garbage": os.urandom(2000) + b"\r\n\r\n",
    "no-http": b"hello\r\n\r\n",
    "huge-header": b"GET /images/t1 HTTP/1.1\r\nA: " + b"x" * 100_000,
    "many-headers": b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    "endless-line": b"GET /" + b"x" * 100_000,
    "chunked": b"PATCH /images/t1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "no-length": b"PUT /images/t1 HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two-lengths": b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "negative": b"PUT /images/t1 HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "long-patch": b"PATCH /images/t1 HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
}


@pytest.mark.parametrize("data", RUDE.values(), ids=RUDE)
def test_rude_clients_get_an_answer_and_the_end(
    address: str, place: Place, data: bytes, meet: Meet
) -> None:
    rude = meet(SOCKET)
    with contextlib.suppress(BrokenPipeError):
        rude.sock.sendall(data)
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := rude.sock.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 4")
    assert meet().ask("GET", "/images/t1", Range="bytes=0-0")[0] == 206


def test_clients_that_wait_are_invited(address: str, place: Place, meet: Meet) -> None:
    caller = meet(SOCKET)
    head = (
        "PUT /images/{} HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    caller.sock.sendall(head.format("t1").encode())
    assert caller.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.sock.sendall(b"abc")
    assert caller.sock.recv(12) == b"HTTP/1.1 200"
    other = meet(SOCKET)
    other.sock.sendall(head.format("t2").encode())
    assert other.sock.recv(12) == b"HTTP/1.1 403"
