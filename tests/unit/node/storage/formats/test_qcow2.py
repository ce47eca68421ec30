"""What the first bytes of a file say."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as some

from node.storage.formats import qcow2
from node.units import GiB, KiB

NAME = b"70100000-0000-4000-8000-000000000001"


def file(
    backing: bytes = b"",
    at: int = 0,
    *,
    version: int = 3,
    features: int = 0,
    extensions: tuple[tuple[int, bytes], ...] = (),
) -> bytes:
    """Return the start of a file, drawn by hand from QEMU's description."""
    length = 104 if version == 3 else 72
    middle = b""
    for kind, value in (*extensions, (0, b"")):
        padding = bytes(-len(value) % 8)
        middle += struct.pack(">II", kind, len(value)) + value + padding
    at = at or (length + len(middle) if backing else 0)
    start = b"QFI\xfb" + struct.pack(">IQIIQ", version, at, len(backing), 16, GiB)
    start = start.ljust(72, b"\0") + struct.pack(">QQQII", features, 0, 0, 4, length)
    return ((start[:length] + middle).ljust(at, b"\0") + backing).ljust(4096, b"\0")


def test_read_finds_size_backing_and_its_format() -> None:
    start = file(NAME, extensions=((0x6803F857, b"names"), (0xE2792ACA, b"raw")))
    assert qcow2.read(start) == qcow2.Header(GiB, NAME.decode(), "raw")
    assert qcow2.read(file(NAME)) == qcow2.Header(GiB, NAME.decode())
    assert qcow2.read(file(NAME, version=2)) == qcow2.Header(GiB, NAME.decode())
    assert qcow2.read(file()) == qcow2.Header(GiB)
    assert qcow2.read(file(features=4)) == qcow2.Header(GiB, has_data_file=True)


def test_needed_tells_how_much_of_a_file_to_read() -> None:
    start = file(NAME, at=60_000)
    assert qcow2.needed(start[:4096]) == 61_440
    assert qcow2.read(start[:4096]) is None
    assert qcow2.read(start) == qcow2.Header(GiB, NAME.decode())
    assert qcow2.needed(file(NAME)) == qcow2.needed(b"") == 4096
    assert qcow2.needed(file(NAME)[:8] + b"\xff" * 40) == 4096


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(4096), id="raw"),
        pytest.param(file()[:80], id="cut"),
        pytest.param(file(version=4), id="version"),
        pytest.param(file(b"x" * 2000), id="long-name"),
        pytest.param(file(NAME)[:130], id="name-cut"),
    ],
)
def test_read_finds_no_header(start: bytes) -> None:
    assert qcow2.read(start) is None


@given(some.binary(max_size=300), some.integers(0, 300))
def test_read_survives_any_header(noise: bytes, at: int) -> None:
    start = bytearray(file(NAME, extensions=((0xE2792ACA, b"qcow2"),)))
    start[at : at + len(noise)] = noise
    found = qcow2.read(bytes(start))
    assert found is None or found.size_bytes >= 0
    assert 0 < qcow2.needed(bytes(start)) <= qcow2.START_MAX


@given(some.integers(1, qcow2.SIZE_MAX), some.sampled_from(["", "raw", "qcow2"]))
def test_read_finds_what_empty_draws(size: int, backing_format: str) -> None:
    backing = NAME.decode() if backing_format else ""
    drawn = qcow2.empty(size, backing, backing_format)
    start = drawn.pieces[0][1]
    found = qcow2.Header(size, backing or None, backing_format or None)
    assert qcow2.read(start) == found


@pytest.mark.parametrize(
    ("size", "clusters"),
    [
        pytest.param(512, 4, id="one-sector"),
        pytest.param(4096 * GiB, 4, id="full-cluster"),
        pytest.param(4097 * GiB, 5, id="second-cluster"),
        pytest.param(qcow2.SIZE_MAX, 515, id="largest"),
    ],
)
def test_empty_counts_each_cluster_once(size: int, clusters: int) -> None:
    drawn = qcow2.empty(size)
    offset, counts = drawn.pieces[-1]
    assert offset == 128 * KiB
    assert counts == b"\0\1" * clusters
    assert drawn.size_bytes == clusters * 64 * KiB
