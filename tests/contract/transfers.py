"""Run the transfer server, qemu-nbd and nginx for a test, all on this machine."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from node import pki
from node.http import front, nginx
from node.transfer import places
from node.transfer.client import TicketClient
from node.transfer.tickets import Op, TicketRequest
from tests.ports import free_port

DEADLINE_S = 30.0
CHECKOUT = Path(__file__).parents[2]
BOTH = (Op.READ, Op.WRITE)
# docs/formats/transfers.md says why.
ENVIRONMENT = (
    "MALLOC_MMAP_THRESHOLD_=33554432",
    "MALLOC_TRIM_THRESHOLD_=268435456",
    "MALLOC_ARENA_MAX=1",
)


@dataclass(slots=True)
class Place:
    """A transfer server, with nginx before it."""

    folder: Path
    server: "subprocess.Popen[bytes]"
    nginx: "subprocess.Popen[bytes]"
    port: int
    tickets: TicketClient

    @property
    def socket(self) -> Path:
        return self.folder / places.SOCKET

    def install(
        self,
        ticket_id: str,
        size: int,
        ops: tuple[Op, ...] = BOTH,
        export: str = "nbd.sock",
        **more: object,
    ) -> str:
        """Install a ticket for the qemu-nbd at a socket; return its address."""
        url = f"nbd:unix:{self.folder / export}"
        fields: dict[str, object] = {"timeout": 300, "sparse": True, **more}
        self.tickets.install(
            TicketRequest(ticket_id, size, url, ops=ops, **fields)  # type: ignore[arg-type]  # a test's own words
        )
        return f"https://127.0.0.1:{self.port}/images/{ticket_id}"


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Place]:
    """Run a transfer server behind nginx."""
    if shutil.which("nginx") is None or os.geteuid() != 0:
        pytest.skip("needs root and nginx")
    with (
        serving(folder, "--stays-root") as server,
        fronted(folder, folder / places.SOCKET) as found,
    ):
        tickets = TicketClient(folder / places.TICKETS_SOCKET)
        yield Place(folder, server, found[0], found[1], tickets)


@contextlib.contextmanager
def serving(folder: Path, *more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the transfer server itself."""
    words = ["-m", "node.transfer", "--run-folder", str(folder), *more]
    with started([sys.executable, *words], folder / "transfer.log") as server:
        wait_until((folder / places.TICKETS_SOCKET).exists, server)
        yield server


@contextlib.contextmanager
def exporting(
    image: Path, disk_format: str, *more: str, shared: int = 8, name: str = "nbd.sock"
) -> Iterator["subprocess.Popen[bytes]"]:
    """Serve an image by qemu-nbd, beside it."""
    path = image.parent / name
    words = ["-t", f"--shared={shared}", "-f", disk_format, "-k", str(path)]
    words += ["--discard=unmap", *more, str(image)]
    argv = ["env", *ENVIRONMENT, "qemu-nbd", *words]
    with started(argv, image.parent / f"{name}.log") as export:
        wait_until(path.exists, export)
        yield export
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def fronted(
    folder: Path, path: Path
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run nginx before a socket; yield it and its port."""
    key = pki.make_key()
    name = "11111111-2222-4333-8444-000000000001"
    (folder / "key.pem").write_text(pki.dump_key(key).reveal())
    certificate = pki.self_signed(key, name, datetime.now(UTC))
    (folder / "certificate.pem").write_text(certificate)
    port = free_port()
    door = nginx.Door(
        "transfers",
        "Disks in and out.",
        port,
        str(folder / "certificate.pem"),
        str(folder / "key.pem"),
        str(path),
        is_stream=True,
    )

    def render() -> str:
        return nginx.render(nginx.Front(str(folder), (door,), False, user="root"))

    served = front.Front(folder, render)
    served.refresh()
    with started([*served.argv()], folder / "nginx.log") as process_:
        wait_until((folder / "nginx.pid").exists, process_)
        yield process_, port


@contextlib.contextmanager
def started(words: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program; what it says lands in a file."""
    with log.open("ab") as stream:
        program = subprocess.Popen(words, cwd=CHECKOUT, stdout=stream, stderr=stream)
    try:
        yield program
    finally:
        program.send_signal(signal.SIGCONT)
        program.terminate()
        try:
            program.wait(DEADLINE_S)
        finally:
            program.kill()
            program.wait(DEADLINE_S)


def wait_until(
    is_so: Callable[[], object], program: "subprocess.Popen[bytes] | None" = None
) -> None:
    """Wait until something is so; fail after a while, or when a program ends."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not happen in time"
        assert program is None or program.poll() is None, "the program has ended"
        time.sleep(0.01)


def qemu_img(*words: str | Path | int) -> str:
    """Run qemu-img; return what it prints."""
    done = subprocess.run(
        ["qemu-img", *map(str, words)],
        check=True,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    return done.stdout
