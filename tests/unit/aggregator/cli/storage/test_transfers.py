"""`skerry disk upload`, `download`, `iso` and `transfer`, with an image in memory."""

import os
import random
import ssl
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aggregator.api.transfer_verbs import VERBS
from aggregator.cli import client
from aggregator.cli.storage import moves
from node import pki, wire
from node.model.fleet import Role
from node.model.ids import DiskId
from node.model.reason import Reason
from node.model.storage import (
    ContentType,
    DiskFormat,
    TransferDirection,
    TransferPhase,
)
from node.transfer import moving
from node.units import MiB
from tests.fakes import fleet_storage, image_server, services
from tests.fakes.image_server import ImageServer, block_sum
from tests.fakes.papers import PaperFleet
from tests.fakes.transfers import FakeTransfers
from tests.unit.aggregator.cli import shell
from tests.unit.aggregator.cli.shell import Desk
from tests.unit.terminal import Ended

SIZE = 6 * MiB
DATA = random.Random(3).randbytes(MiB)
UNKNOWN = "ffffffff-0000-4000-8000-00000000000f"


@dataclass(frozen=True, slots=True)
class Place:
    desk: Desk
    images: ImageServer
    folder: Path

    @property
    def transfers(self) -> FakeTransfers:
        return self.desk.fleet.node.transfers

    def asked(self, name: str) -> list[Any]:
        return [each for verb, each in self.transfers.asked if verb == name]

    def upload(self, *words: str) -> Ended:
        return shell.run("disk", "upload", *words, "--domain", "data1")


@pytest.fixture
def place(tmp_path: Path, session: Path, desk: Desk) -> Iterator[Place]:
    """Yield a fleet with one image, which every transfer of it moves."""
    with _images(tmp_path) as (images, ca):
        kept = client.load(session)
        both = kept.ca_certificate + ca
        client.save(session, replace(kept, ca_certificate=both))
        desk.fleet.node.transfers.url = images.url.rpartition("/")[0]
        desk.fleet.node.transfers.size_bytes = SIZE
        yield Place(desk, images, tmp_path)


class _images:
    """An image server with a certificate of a CA of its own."""

    def __init__(self, folder: Path) -> None:
        papers, key = PaperFleet(now=datetime.now(UTC)), pki.make_key()
        (folder / "image.key").write_text(pki.dump_key(key).reveal())
        request = pki.signing_request(key, "a1")
        (folder / "image.pem").write_text(papers.issue(request, "a1", Role.AGGREGATOR))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "image.pem", folder / "image.key")
        self._serving = image_server.serve(SIZE, context)
        self._ca = papers.ca

    def __enter__(self) -> tuple[ImageServer, str]:
        return self._serving.__enter__(), self._ca

    def __exit__(self, *exit_: Any) -> None:
        self._serving.__exit__(*exit_)


def raw(folder: Path, name: str = "web.raw") -> Path:
    path = folder / name
    path.write_bytes(DATA)
    os.truncate(path, SIZE)
    return path


def notes(folder: Path) -> list[Path]:
    return list((folder / "home/transfers").glob("*.json"))


def test_command_is_there_for_every_verb() -> None:
    acting = {"extend", "pause", "resume", "cancel"}
    assert {verb.name for verb in VERBS} == {
        "transfer_list",
        "transfer_show",
        "transfer_create",  # by disk upload and download
        "transfer_finalize",  # likewise
        *(f"transfer_{each}" for each in acting),
    }


def test_upload_makes_a_disk_and_sends_the_file(place: Place) -> None:
    path = raw(place.folder)
    ended = place.upload(str(path))
    assert ended.status == 0, ended.err
    assert "Sent 6.0 MiB: disk web" in ended.text
    assert bytes(place.images.data) == DATA.ljust(SIZE, b"\0")
    (_, _, made, _) = place.desk.fleet.orders.storage.asked[0]
    assert (made.name, made.size_bytes) == ("web", SIZE)
    assert (made.disk_format, made.content) == (DiskFormat.RAW, ContentType.DATA)
    (finalized,) = place.asked("transfer_finalize")
    assert finalized.sha256 == block_sum(place.images.data)
    assert not notes(place.folder)


def test_upload_to_another_fleet_begins_anew(place: Place) -> None:
    """What was noted is of a disk that is not there, or not there any more."""
    path = raw(place.folder)
    status = path.stat()
    note = moves.Note(DiskId(UNKNOWN), None, MiB, status.st_size, status.st_mtime_ns)
    moves.Notes(path, TransferDirection.UPLOAD).save(note)
    ended = place.upload(str(path))
    assert ended.status == 0, ended.err
    assert bytes(place.images.data) == DATA.ljust(SIZE, b"\0")
    (_, _, made, _) = place.desk.fleet.orders.storage.asked[0]
    assert made.name == "web"


def test_qcow2_file_travels_as_it_is(place: Place) -> None:
    path = place.folder / "web.qcow2"
    header = struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, 10 * MiB)
    path.write_bytes(header.ljust(SIZE, b"\0"))
    ended = place.upload(str(path), "--name", "other")
    assert ended.status == 0, ended.err
    (_, _, made, _) = place.desk.fleet.orders.storage.asked[0]
    assert (made.name, made.size_bytes) == ("other", 10 * MiB)
    (asked,) = place.asked("transfer_create")
    assert (asked.disk_format, asked.size_bytes) == (DiskFormat.QCOW2, SIZE)


@pytest.mark.parametrize(
    ("content", "words", "why"),
    [
        (b"", (), "is empty"),
        (b"QFI\xfb" + bytes(200), (), "damaged"),
        (
            struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 200, 4, 16, MiB).ljust(300, b"x"),
            (),
            "needs another file",
        ),
        (
            struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, MiB).ljust(300, b"\0"),
            ("--format", "raw"),
            "is qcow2",
        ),
    ],
    ids=["empty", "damaged", "backing-file", "to-raw"],
)
def test_file_that_is_no_whole_image_is_refused(
    place: Place, content: bytes, words: tuple[str, ...], why: str
) -> None:
    path = place.folder / "wrong"
    path.write_bytes(content)
    ended = shell.run("disk", "upload", str(path), *words)
    assert ended.status != 0
    assert not place.desk.fleet.orders.storage.asked
    assert why in ended.err


def test_interrupted_upload_goes_on_in_the_same_transfer(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, "PATIENCE_S", 1.0)
    path = raw(place.folder)
    place.images.breaks_after = 1
    assert place.upload(str(path)).status != 0
    (note,) = notes(place.folder)
    first = wire.parse(note.read_bytes())["transfer_id"]
    place.transfers.change(
        first,
        phase=TransferPhase.PAUSED_SYSTEM,
        reason=Reason("transfer_interrupted", services.AT, {}),
    )
    place.images.breaks_after = None
    monkeypatch.setattr(moves, "PATIENCE_S", 30.0)
    ended = place.upload(str(path))
    assert ended.status == 0, ended.err
    assert len(place.asked("transfer_create")) == 1
    assert len(place.asked("transfer_resume")) == 1
    assert len(place.desk.fleet.orders.storage.asked) == 1
    assert bytes(place.images.data) == DATA.ljust(SIZE, b"\0")


def test_upload_goes_on_after_the_last_flush(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moving, "WINDOW_BYTES", 2 * MiB)
    monkeypatch.setattr(moves, "PATIENCE_S", 1.0)
    path = raw(place.folder)
    # OPTIONS; data, a hole and a flush; a hole and a flush.
    place.images.breaks_after = 6
    assert place.upload(str(path)).status != 0
    (note,) = notes(place.folder)
    assert wire.parse(note.read_bytes())["done_bytes"] == 4 * MiB
    place.images.breaks_after = None
    place.images.zeros.clear()
    assert place.upload(str(path)).status == 0
    assert place.images.zeros == [(4 * MiB, 2 * MiB)]


def test_upload_whose_manager_was_lost_goes_on_in_another_transfer(
    place: Place,
) -> None:
    path = raw(place.folder)
    assert place.upload(str(path)).status == 0
    (made,) = place.asked("transfer_create")
    place.transfers.change(
        made.transfer_id,
        phase=TransferPhase.FINISHED_FAILURE,
        reason=Reason("transfer_manager_lost", services.AT, {"detail": "gone"}),
    )
    status = path.stat()
    direction = made.direction
    note = moves.Note(
        made.disk_id, made.transfer_id, 5 * MiB, status.st_size, status.st_mtime_ns
    )
    moves.Notes(path, direction).save(note)
    place.images.puts.clear()
    place.images.zeros.clear()
    assert place.upload(str(path)).status == 0
    assert len(place.asked("transfer_create")) == 2
    assert place.images.zeros == [(5 * MiB, MiB)]


def test_refused_upload_is_told_and_forgotten(place: Place) -> None:
    path = raw(place.folder)
    place.transfers.ends_badly = Reason(
        "transfer_failed", services.AT, {"name": "web", "detail": "its sum is other"}
    )
    ended = place.upload(str(path))
    assert ended.status != 0
    assert "its sum is other" in ended.err
    assert not notes(place.folder)


def test_download_fetches_into_a_file_at_once(place: Place) -> None:
    place.images.data[: len(DATA)] = DATA
    path = place.folder / "back"
    place.desk.ok("disk", "download", "loose", str(path))
    assert path.read_bytes() == bytes(place.images.data)
    (finalized,) = place.asked("transfer_finalize")
    assert finalized.sha256 == block_sum(place.images.data)
    again = shell.run("disk", "download", "loose", str(path))
    assert again.status != 0
    assert "--force" in again.err
    place.desk.ok("disk", "download", "loose", str(path), "--force")


def test_download_of_a_snapshot_never_goes_on_with_that_of_another(
    place: Place,
) -> None:
    path, part = place.folder / "back", place.folder / "back.part"
    part.write_bytes(b"of the newest state")
    disk_id = DiskId(fleet_storage.LOOSE)
    moves.Notes(path, TransferDirection.DOWNLOAD).save(moves.Note(disk_id, None, 19))
    snapshot_id = "70100000-0000-4000-8000-000000000001"
    words = ("disk", "download", "loose", str(path), "--snapshot", snapshot_id)
    place.desk.ok(*words)
    (asked,) = place.asked("transfer_create")
    assert (asked.disk_id, asked.snapshot_id) == (disk_id, snapshot_id)
    assert path.read_bytes() == bytes(place.images.data)


def test_iso_is_a_raw_disk_with_its_content(place: Place) -> None:
    path = raw(place.folder, "debian-13.iso")
    place.desk.ok("iso", "upload", str(path), "--domain", "data1")
    (_, _, made, _) = place.desk.fleet.orders.storage.asked[0]
    assert (made.name, made.content) == ("debian-13.iso", ContentType.ISO)
    listed = place.desk.ok("--json", "iso", "list").json["disks"]
    assert "debian.iso" in [each["name"] for each in listed]
    assert "loose" not in [each["name"] for each in listed]


def test_storage_domain_must_be_named_if_there_are_several(place: Place) -> None:
    ended = shell.run("disk", "upload", str(raw(place.folder)))
    assert ended.status != 0
    assert "--domain" in ended.err


def test_transfers_are_shown_and_acted_on(place: Place) -> None:
    assert place.upload(str(raw(place.folder))).status == 0
    (made,) = place.asked("transfer_create")
    place.transfers.change(made.transfer_id, phase=TransferPhase.TRANSFERRING)
    text = place.desk.ok("transfer", "list").text
    assert made.transfer_id in text
    (listed,) = place.desk.ok("--json", "transfer", "list").json["transfers"]
    assert not listed.get("url")
    assert "https://" in place.desk.ok("transfer", "show", made.transfer_id).text
    for name in ("extend", "pause", "resume", "cancel"):
        place.desk.ok("transfer", name, made.transfer_id)
        assert place.asked(f"transfer_{name}")
    assert shell.run("transfer", "show", UNKNOWN).status != 0
