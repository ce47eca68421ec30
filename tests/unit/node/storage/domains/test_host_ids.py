"""Host ids: sectors written by hand, and one as sanlock wrote it."""

from pathlib import Path

import pytest

from node.storage.domains import host_ids
from node.storage.domains.host_ids import HostIdsUsedUp, HostRecord, LockspaceDamaged
from node.storage.process.protocol import LockspaceAt
from node.system.leases import IO_TIMEOUT_S
from tests.fakes.guard import LocalFiles
from tests.fakes.pool_guard import PoolGuard, sector
from tests.unit.node.storage.examples import SD

# `sanlock direct init -s 11111111-aaaa-4bbb-8ccc-000000000001:0:ids:0` of 3.8.5.
REAL_SPACE = "11111111-aaaa-4bbb-8ccc-000000000001"
REAL = (
    bytes.fromhex("10202112 04000300 10000000 00020000 0000000000000000")
    + bytes.fromhex("0100000000000000")
    + bytes(24)
    + REAL_SPACE.encode().ljust(48, b"\0")
    + bytes(48 + 8 + 8)
    + (1915507262).to_bytes(4, "little")
).ljust(512, b"\0")


def area(*sectors: bytes, lockspace: str = SD) -> bytes:
    """Return an `ids` area that begins with these sectors."""
    return b"".join(sectors) + sector(lockspace) * (host_ids.HOST_ID_MAX - len(sectors))


def records(*known: HostRecord) -> list[HostRecord]:
    by_id = {each.host_id: each for each in known}
    ids = range(1, host_ids.HOST_ID_MAX + 1)
    return [by_id.get(n, HostRecord(n, "", 0, 0)) for n in ids]


def test_parse_reads_what_sanlock_wrote() -> None:
    found = host_ids.parse(REAL * host_ids.HOST_ID_MAX, REAL_SPACE, 512)
    assert len(found) == host_ids.HOST_ID_MAX
    assert found[1] == HostRecord(2, "", 0, 0)


@pytest.mark.parametrize("size_bytes", [512, 4096])
def test_parse_tells_who_has_which_host_id(size_bytes: int) -> None:
    empty = sector(SD, size_bytes=size_bytes)
    taken = sector(SD, 2, 7, "node-b", 99, size_bytes)
    data = empty + taken + empty * 248
    found = host_ids.parse(data, SD, size_bytes)
    assert found[0] == HostRecord(1, "", 0, 0)
    assert found[1] == HostRecord(2, "node-b", 7, 99)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(bytes(512), id="zeros"),
        pytest.param(sector("another"), id="another-lockspace"),
        pytest.param(sector(SD, 1, 1, "a")[:100] + b"x" + bytes(411), id="checksum"),
    ],
)
def test_parse_marks_a_damaged_sector(bad: bytes) -> None:
    assert host_ids.parse(area(bad), SD, 512)[0].is_damaged


@pytest.mark.parametrize("data", [b"", bytes(250 * 512), area()[:-512]])
def test_parse_refuses_what_is_no_lockspace(data: bytes) -> None:
    with pytest.raises(LockspaceDamaged):
        host_ids.parse(data, SD, 512)


A = HostRecord(1, "a", 3, 10)
B = HostRecord(2, "b", 1, 0)
DAMAGED = HostRecord(3, "", 0, 0, is_damaged=True)


@pytest.mark.parametrize(
    ("name", "refused", "expected"),
    [
        pytest.param("a", set(), 1, id="our-own"),
        pytest.param("b", set(), 2, id="our-own-given-back"),
        pytest.param("c", set(), 4, id="lowest-never-used-and-not-damaged"),
        pytest.param("c", {4, 5}, 6, id="others-were-quicker"),
        pytest.param("a", {1}, 4, id="our-own-is-held"),
        pytest.param("c", set(range(4, 251)), 2, id="given-back-by-another"),
    ],
)
def test_choose_returns_the_host_id_to_try(
    name: str, refused: set[int], expected: int
) -> None:
    assert host_ids.choose(records(A, B, DAMAGED), name, refused) == expected


def test_choose_refuses_when_all_are_taken() -> None:
    full = [HostRecord(n, f"n{n}", 1, 5) for n in range(1, 251)]
    with pytest.raises(HostIdsUsedUp):
        host_ids.choose(full, "new")


def test_join_takes_the_next_when_another_host_is_quicker(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.touch()
    space = LockspaceAt(SD, str(path))
    first = PoolGuard(machine="a")
    first.write_lockspace(space)
    blank = path.read_bytes()
    assert host_ids.join(first, LocalFiles(str(tmp_path)), space, "a") == 1
    path.write_bytes(blank)  # as the second read it, just before the first wrote
    second = PoolGuard(storage=first.storage, machine="b")
    assert host_ids.join(second, LocalFiles(str(tmp_path)), space, "b") == 2
    assert host_ids.join(second, LocalFiles(str(tmp_path)), space, "b") == 2


class Twice(PoolGuard):
    """A node of which two threads join: the other one is a little quicker."""

    __slots__ = ()

    def join(
        self, lockspace: LockspaceAt, host_id: int, io_timeout_s: int = IO_TIMEOUT_S
    ) -> None:
        if not self.lockspaces():
            PoolGuard.join(self, lockspace, 7, io_timeout_s)
        PoolGuard.join(self, lockspace, host_id, io_timeout_s)


def test_join_returns_the_host_id_that_another_thread_has_got(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.touch()
    space = LockspaceAt(SD, str(path))
    guard = Twice(machine="a")
    guard.write_lockspace(space)
    assert host_ids.join(guard, LocalFiles(str(tmp_path)), space, "a") == 7


def test_join_returns_to_its_own_host_id(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.touch()
    space, files = LockspaceAt(SD, str(path)), LocalFiles(str(tmp_path))
    one = PoolGuard(machine="a")
    one.write_lockspace(space)
    other = PoolGuard(storage=one.storage, machine="b")
    assert host_ids.join(one, files, space, "a") == 1
    assert host_ids.join(other, files, space, "b") == 2
    other.leave(space, 2)
    one.leave(space, 1)
    assert host_ids.join(other, files, space, "b") == 2
