"""Disks in and out of a fleet's node, while clients, qemu-nbd and the agent are killed.

`skerry` runs beside the aggregator, on its machine; the data go to h1 itself.
"""

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from aggregator.api import storage_verbs, transfer_verbs
from aggregator.api.storage_model import NewDisk
from aggregator.cli import client
from node import wire
from node.model.ids import DiskId, TransferId
from node.model.storage import Transfer, TransferDirection, TransferPhase
from node.model.storage_requests import ActOnDisk, CreateTransfer, FinalizeTransfer
from node.units import MiB
from tests.lab import layout, waiting
from tests.lab.running import Member
from tests.lab.story.conftest import Story

pytestmark = pytest.mark.lab

PROGRAM = str(layout.VIRTUAL_ENVIRONMENT / "bin/skerry")
PYTHON = str(layout.VIRTUAL_ENVIRONMENT / "bin/python")
DOMAIN = "h1-local"
# Long enough to be interrupted in the middle.
SIZE = 640 * MiB
LONG_S = 120.0
# qemu-nbd, the transfer server and nginx's worker, together.
GROWTH_MAX = 50 * MiB


@dataclass(slots=True)
class Desk:
    """Somebody with the command line, on the aggregator's machine or another."""

    story: Story
    folder: Path
    machine: str = "a1"
    running: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    @property
    def h1(self) -> Member:
        return self.story.lab.member("h1")

    def words(self, *words: str) -> list[str]:
        path = self.folder / "home/session.json"
        words = ("env", f"SKERRY_SESSION={path}", PROGRAM, *words)
        return self.story.lab.member(self.machine).entering(words)

    def run(self, *words: str) -> str:
        done = subprocess.run(
            self.words(*words), capture_output=True, text=True, timeout=LONG_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def begin(self, *words: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "log").open("ab") as log:
            made = subprocess.Popen(self.words(*words), stdout=log, stderr=log)
        self.running.append(made)
        return made

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def done_bytes(self) -> int:
        """Return how much the client has written down as done."""
        for path in (self.folder / "home/transfers").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                return int(wire.parse(path.read_bytes()).get("done_bytes", 0))
        return 0

    def wait_done(self, size_bytes: int) -> None:
        waiting.until(f"{size_bytes} bytes", lambda: self.done_bytes() >= size_bytes)

    def kill(self, client_: "subprocess.Popen[bytes]") -> None:
        """Kill a client in the member; what started it ends with it."""
        killed = self.story.lab.member("a1").exec(
            ["pkill", "-9", "-f", f"{PROGRAM} disk"]
        )
        assert killed.returncode == 0
        client_.wait(LONG_S)

    def ended(self, client_: "subprocess.Popen[bytes]") -> None:
        assert client_.wait(LONG_S) == 0, self.log()

    def disk(self, name: str) -> DiskId:
        lines = self.story.client.disk_list(name).disks
        return next(each.disk_id for each in lines if each.name == name)

    def qemu_nbd(self) -> str:
        """Return the pid of the one qemu-nbd of h1, as h1 knows it."""

        def found() -> str:
            return self.h1.exec(["pidof", "qemu-nbd"]).stdout.strip()

        return str(waiting.until("a qemu-nbd", found))

    def show(self, transfer_id: TransferId) -> Transfer:
        return self.story.client.transfer_show(transfer_id)

    def wait_phase(self, transfer_id: TransferId, phase: TransferPhase) -> Transfer:
        def found() -> Transfer | None:
            transfer = self.show(transfer_id)
            return transfer if transfer.phase is phase else None

        return waiting.until(f"{transfer_id} {phase}", found)


@pytest.fixture
def desk(story: Story, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(story, tmp_path)
    session = replace(story.fleet.session(), port=443)
    session = replace(session, address=story.lab.member("a1").address)
    client.save(tmp_path / "home/session.json", session)
    waiting.until("h1's local disk", lambda: _domain_is_there(story))
    before = {line.disk_id for line in story.client.disk_list().disks}
    yield made
    for each in made.running:
        if each.poll() is None:
            made.kill(each)
    for line in story.client.disk_list().disks:
        if line.disk_id not in before:
            verb = storage_verbs.DISK_DELETE
            order = story.client.disk_act(verb, ActOnDisk(), line.disk_id)
            story.fleet.wait_order(story.client, order)


def _domain_is_there(story: Story) -> bool:
    lines = story.client.storage_domain_list().storage_domains
    return any(each.name == DOMAIN and each.state == "active" for each in lines)


def image(folder: Path, size_bytes: int, data_bytes: int) -> Path:
    """Return a file with so much data, in pieces, and holes."""
    path, pieces = folder / "image.raw", 8
    with path.open("wb") as file:
        for number in range(pieces):
            file.seek(number * size_bytes // pieces)
            file.write(random.Random(number).randbytes(data_bytes // pieces))
        file.truncate(size_bytes)
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_upload_survives_the_death_of_client_qemu_nbd_and_agent(desk: Desk) -> None:
    path = image(desk.folder, SIZE, SIZE)
    words = ("disk", "upload", str(path), "--name", "big", "--domain", DOMAIN)
    first = desk.begin(*words)
    desk.wait_done(64 * MiB)
    desk.kill(first)
    stopped_at = desk.done_bytes()
    assert 0 < stopped_at < SIZE
    assert desk.story.client.disk_show(desk.disk("big")).disk.state == "locked"
    began = time.monotonic()
    second = desk.begin(*words)
    assert desk.h1.exec(["kill", "-9", desk.qemu_nbd()]).returncode == 0
    desk.wait_done(min(stopped_at + 128 * MiB, SIZE - 64 * MiB))
    os.kill(desk.h1.service_pid("agent"), signal.SIGKILL)
    desk.ended(second)
    took_s = time.monotonic() - began
    print(f"{SIZE - stopped_at >> 20} MiB after the kill: {took_s:.1f} s")
    (line,) = desk.story.client.disk_list("big").disks
    assert (line.name, line.size_bytes) == ("big", SIZE)
    desk.run("disk", "download", "big", str(desk.folder / "back"))
    assert sha256(desk.folder / "back") == sha256(path)
    assert not list((desk.folder / "home/transfers").iterdir())

    def is_free() -> bool:
        detail = desk.story.client.disk_show(desk.disk("big")).disk
        return (detail.state, detail.lock_owner) == ("ok", None)

    waiting.until("the disk free", is_free)


def test_client_who_does_not_reach_the_node_goes_past_the_aggregator(
    desk: Desk,
) -> None:
    path = image(desk.folder, 64 * MiB, 16 * MiB)
    far = replace(desk, machine="h2")
    h2, to_h1 = desk.story.lab.member("h2"), f"{desk.h1.address}/32"
    assert h2.exec(["ip", "route", "add", "unreachable", to_h1]).returncode == 0
    try:
        far.run("disk", "upload", str(path), "--name", "far", "--domain", DOMAIN)
        far.run("disk", "download", "far", str(desk.folder / "back"))
    finally:
        assert h2.exec(["ip", "route", "del", "unreachable", to_h1]).returncode == 0
    assert sha256(desk.folder / "back") == sha256(path)


def test_imageio_of_ovirt_moves_a_disk_through_nginx(desk: Desk) -> None:
    path = image(desk.folder, 64 * MiB, 16 * MiB)
    disk_id = DiskId(str(uuid.uuid4()))
    domain = next(
        each
        for each in desk.story.client.storage_domain_list().storage_domains
        if each.name == DOMAIN
    )
    new = NewDisk("ovirt", domain.storage_domain_id, 64 * MiB, disk_id)
    order = desk.story.client.disk_act(storage_verbs.DISK_CREATE, new)
    desk.story.fleet.wait_order(desk.story.client, order)
    upload = _open(desk, disk_id, TransferDirection.UPLOAD)
    _imageio(desk, "upload", str(path), upload.url)
    _finalize(desk, upload)
    download = _open(desk, disk_id, TransferDirection.DOWNLOAD)
    _imageio(desk, "download", download.url, str(desk.folder / "back"))
    _finalize(desk, download)
    assert sha256(desk.folder / "back") == sha256(path)


def _open(desk: Desk, disk_id: DiskId, direction: TransferDirection) -> Transfer:
    transfer_id = TransferId(str(uuid.uuid4()))

    def made() -> Transfer | None:
        with contextlib.suppress(Exception):  # the disk is not shown yet
            return desk.story.client.transfer_create(
                CreateTransfer(transfer_id, disk_id, direction)
            )
        return None

    waiting.until("a transfer", made)
    return desk.wait_phase(transfer_id, TransferPhase.TRANSFERRING)


def _finalize(desk: Desk, transfer: Transfer) -> None:
    verb = transfer_verbs.TRANSFER_FINALIZE
    wanted = transfer.transfer_id
    desk.story.client.transfer_act(verb, FinalizeTransfer(), wanted)
    desk.wait_phase(wanted, TransferPhase.FINISHED_SUCCESS)


def _imageio(desk: Desk, verb: str, source: str, target: str) -> None:
    """Let oVirt's own client move an image, believing the fleet's CA alone."""
    ca = desk.folder / "ca.pem"
    session: Any = wire.parse((desk.folder / "home/session.json").read_bytes())
    ca.write_text(session["ca_certificate"])
    more = ', fmt="raw"' if verb == "download" else ""
    text = (
        "import sys\nfrom ovirt_imageio import client\n"
        f"client.{verb}(sys.argv[1], sys.argv[2], sys.argv[3]{more})\n"
    )
    done = desk.story.lab.member("a1").exec(
        [PYTHON, "-c", text, source, target, str(ca)], timeout_s=LONG_S
    )
    assert done.returncode == 0, done.stderr


def test_upload_takes_little_memory_and_no_files(desk: Desk) -> None:
    path = image(desk.folder, 2048 * MiB, 256 * MiB)
    before, peak = _memory(desk), 0
    sender = desk.begin("disk", "upload", str(path), "--domain", DOMAIN)
    while sender.poll() is None:
        peak = max(peak, _memory(desk))
        assert _temporary(desk) == ""
    desk.ended(sender)
    print(f"2 GiB: {before >> 20} MiB before, {peak >> 20} MiB at most")
    assert peak - before < GROWTH_MAX


def _memory(desk: Desk) -> int:
    """Return what the parts of a transfer on h1 have of their own."""
    found = desk.h1.exec(
        [
            "sh",
            "-c",
            "for pid in $(pidof qemu-nbd nginx; pgrep -f 'm node.transfer$'); do "
            "grep -s RssAnon /proc/$pid/status; done",
        ]
    )
    return sum(int(line.split()[1]) * 1024 for line in found.stdout.splitlines())


def _temporary(desk: Desk) -> str:
    """Return what of a body lies in files: by name, or open and removed already."""
    text = (
        "find /run/skerry -type f -size +64k; "
        "for pid in $(pidof nginx; pgrep -f 'm node.transfer$'); do "
        "ls -l /proc/$pid/fd | grep -E ' /.*deleted'; done"
    )
    return desk.h1.exec(["sh", "-c", text]).stdout
