"""The OVF_STORE: what oVirt packs is read, ours is packed so, bombs are refused."""

import contextlib
import io
import json
import random
import tarfile
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.model.ids import StorageDomainId, VmId
from node.storage.ovf import store
from node.storage.ovf.document import DOCUMENT_MAX
from node.storage.ovf.store import DamagedOvfStore, OvfStore
from node.units import MiB
from tests.unit.node.storage.ovf import samples

NOW = datetime(2026, 11, 22, 8, 0, 0, tzinfo=UTC)
AT = "2026-11-22T08:00:00.000Z"
VM = VmId(samples.VM)
STORE = OvfStore(
    {VM: b"<ovf/>"},
    AT,
    (StorageDomainId(samples.STORAGE_DOMAIN),),
    {VM: 1},
)


def read(data: bytes) -> OvfStore:
    """Read what comes in pieces that end anywhere."""
    return store.read(data[at : at + 700] for at in range(0, len(data), 700))


def write(content: OvfStore, at: datetime) -> bytes:
    return b"".join(store.write(content, at))


def packed(*files: tuple[str, bytes], **header: Any) -> bytes:
    """Return a tar of files, each with these fields in its header."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in header.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


INFO = ("info.json", b"{}")


def test_read_tells_what_ovirt_packed() -> None:
    date = '"Last Updated" : "Sun Nov 22 08:00:00 UTC 2026"'
    domains = f'"Storage Domains" : [ {{ "uuid" : "{samples.STORAGE_DOMAIN}" }} ]'
    data = packed(
        ("info.json", f"{{ {date}, {domains} }}".encode()),
        (f"{VM}.ovf", b"<ovf/>"),
        ("metadata.json", f'{{ "VM Status" : {{ "{VM}" : 1 }} }}'.encode()),
    )
    assert read(data) == STORE


def test_read_stops_at_the_end_of_the_archive() -> None:
    assert read(write(STORE, NOW) + b"old garbage" * 999) == STORE


def test_write_makes_a_tar_that_others_read() -> None:
    with tarfile.open(fileobj=io.BytesIO(write(STORE, NOW))) as tar:
        assert tar.getnames() == ["info.json", f"{VM}.ovf", "metadata.json"]
        file = tar.extractfile("info.json")
        assert file is not None
        assert json.load(file) == {
            "Last Updated": "Sun Nov 22 08:00:00 UTC 2026",
            "Storage Domains": [{"uuid": samples.STORAGE_DOMAIN}],
        }


def test_write_makes_the_same_bytes_again() -> None:
    assert write(STORE, NOW) == write(STORE, NOW)


def test_not_down_names_vms_that_may_run() -> None:
    states = {VmId("up"): 1, VmId("paused"): 4, VmId("down"): 0}
    assert OvfStore({}, states=states).not_down() == {"up", "paused"}


@given(documents=some.dictionaries(some.uuids().map(str), some.binary(), max_size=4))
def test_read_tells_what_was_packed(documents: dict[VmId, bytes]) -> None:
    assert read(write(OvfStore(documents), NOW)).documents == documents


def _header_says(at: int, text: bytes) -> Callable[[bytes], bytes]:
    """Return what puts a text into the first header, and makes its checksum right."""

    def change(data: bytes) -> bytes:
        header = bytearray(data[:512])
        header[at : at + len(text)] = text
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return bytes(header) + data[512:]

    return change


GOOD = packed(INFO)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(b"", "no end", id="empty"),
        pytest.param(b"\0" * 1024, "info.json is missing", id="zeros"),
        pytest.param(b"x" * 1024, "no number", id="garbage"),
        pytest.param(GOOD[:513], "no end", id="cut-in-a-document"),
        pytest.param(GOOD[:1024], "no end", id="cut-before-its-end"),
        pytest.param(b"X" + GOOD[1:], "is damaged", id="checksum"),
        pytest.param(packed(INFO, INFO), "twice", id="twice"),
        pytest.param(packed(INFO, ("../x.ovf", b"")), "not belong", id="path-up"),
        pytest.param(packed(INFO, ("/etc/passwd", b"")), "not belong", id="absolute"),
        pytest.param(
            packed(INFO, (f"a/{VM}.ovf", b"")), "not belong", id="in-a-folder"
        ),
        pytest.param(packed(INFO, ("x" * 300, b"")), "not belong", id="long-name"),
        pytest.param(
            packed(("info.json", b""), type=tarfile.SYMTYPE, linkname="/etc/shadow"),
            "not belong",
            id="symbolic-link",
        ),
        pytest.param(
            packed(("info.json", b""), type=tarfile.CHRTYPE), "not belong", id="device"
        ),
        pytest.param(
            packed(("info.json", b""), type=tarfile.GNUTYPE_SPARSE),
            "not belong",
            id="sparse-bomb",
        ),
        pytest.param(
            _header_says(124, b"77777777777\0")(GOOD), "cannot have", id="huge-size"
        ),
        pytest.param(
            _header_says(124, b"\x80" + b"\xff" * 11)(GOOD),
            "no number",
            id="binary-size",
        ),
        pytest.param(
            _header_says(124, b"-1         \0")(GOOD), "no number", id="negative-size"
        ),
        pytest.param(_header_says(345, b"/etc")(GOOD), "not belong", id="prefix"),
        pytest.param(packed(("info.json", b"{")), "not JSON", id="no-json"),
        pytest.param(packed(("info.json", b"[]")), "JSON object", id="no-object"),
        pytest.param(packed(("info.json", b"[" * 100_000)), "not JSON", id="deep-json"),
        pytest.param(
            packed(INFO, (f"{VM}.ovf", b"x" * (DOCUMENT_MAX + 1))),
            "cannot have",
            id="large-document",
        ),
    ],
)
def test_read_refuses_what_is_no_store(data: bytes, complaint: str) -> None:
    with pytest.raises(DamagedOvfStore, match=complaint):
        read(data)


def test_read_refuses_more_than_a_store_can_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = packed(INFO, (f"{VM}.ovf", bytes(8192)))
    monkeypatch.setattr(store, "STORE_MAX", 8192)
    with pytest.raises(DamagedOvfStore, match="the store has"):
        read(data)


def test_read_asks_for_no_more_than_the_archive() -> None:
    asked = []

    def pieces() -> Iterator[bytes]:
        for number in range(9):
            asked.append(number)
            yield write(STORE, NOW) if number == 0 else b"old garbage"

    assert store.read(pieces()) == STORE
    assert asked == [0]


def test_large_store_is_held_compressed_and_written_in_pieces() -> None:
    ids = [VmId(str(uuid.UUID(int=number))) for number in range(16)]
    content = OvfStore(store.Documents((each, bytes(MiB)) for each in ids))
    tracemalloc.start()
    try:
        assert sum(map(len, store.write(content, NOW))) > 16 * MiB
        _, written = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        assert len(store.read(store.write(content, NOW)).documents) == 16
        _, read_back = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert written < 4 * MiB  # one document, and on its way to the next
    assert read_back < 8 * MiB  # the same, written and read


def test_read_refuses_what_is_too_large_to_be_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"{uuid.UUID(int=number)}.ovf" for number in range(3)]
    data = packed(
        INFO, *((name, random.Random(name).randbytes(4096)) for name in names)
    )
    monkeypatch.setattr(store, "HELD_MAX", 8192)
    with pytest.raises(DamagedOvfStore, match="too large to be held"):
        read(data)


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"VM Status": {"../x": 1, samples.VM: "1"}}, id="odd-entries"),
        pytest.param({"VM Status": 7}, id="odd-type"),
    ],
)
def test_read_passes_over_odd_states(metadata: dict[str, Any]) -> None:
    data = packed(INFO, ("metadata.json", json.dumps(metadata).encode()))
    assert read(data).states == {}


@given(data=some.data())
def test_read_of_a_damaged_store_never_crashes(data: some.DataObject) -> None:
    whole = write(STORE, NOW)[:4096]
    at = data.draw(some.integers(0, len(whole)))
    damage = data.draw(some.binary(max_size=20))
    with contextlib.suppress(DamagedOvfStore):
        read(whole[:at] + damage + whole[at + len(damage) :])
