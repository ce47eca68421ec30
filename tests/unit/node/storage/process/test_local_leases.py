"""Local leases: real files, and restarts by new objects."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from node import wire
from node.errors import Error
from node.storage.process import worker
from node.storage.process.local_leases import HOST_ID, PREFIX, LeasesByName, LocalLeases
from node.storage.process.protocol import FileReplies, FileWork
from node.storage.process.workers import StorageHangs
from node.system.leases import (
    HostIdHeld,
    LeaseInUse,
    LeaseMoved,
    Leases,
    LeasesDown,
    Liveness,
    Lockspace,
    NotALease,
    NotHeld,
    Owner,
    Resource,
)
from tests.fakes.leases import FakeLeases, FakeLeaseStorage

NAME = f"{PREFIX}one"
END_S = 20.0


def resource(name: str = "SDM") -> Resource:
    return Resource(NAME, name, Path("/unused"), 0)


@pytest.fixture
def space(tmp_path: Path) -> Lockspace:
    return Lockspace(NAME, tmp_path / "local_leases")


def at_once(request: FileWork) -> FileReplies:
    """Do what a worker would, here and now."""
    operations = wire.parse(wire.encode(list(request.operations)))
    return wire.from_json(FileReplies, worker.work(request.root, operations))


def joined(space: Lockspace) -> LocalLeases:
    door = LocalLeases(at_once)
    door.write_lockspace(space, 10)
    door.add_lockspace(space, HOST_ID, 10)
    return door


def test_acquire_grants_a_lease_that_is_held_until_released(space: Lockspace) -> None:
    door = joined(space)
    assert door.acquire(resource()) == 1
    assert door.acquire(resource()) == 1
    assert door.read_owner(resource()) == Owner(HOST_ID, 1, 1)
    assert not door.is_lost(resource())
    door.release(resource())
    door.release(resource())
    assert door.read_owner(resource()) is None
    assert door.acquire(resource()) == 2


def test_versions_grow_over_restarts(space: Lockspace) -> None:
    before = joined(space)
    versions = [before.acquire(resource()), before.acquire(resource("v"))]
    after = joined(space)  # formatting again keeps the number
    versions.append(after.acquire(resource()))
    assert versions == [1, 2, 3]


def test_acquire_refuses_a_version_that_is_not_the_last(space: Lockspace) -> None:
    door = joined(space)
    first = door.acquire(resource())
    door.release(resource())
    with pytest.raises(LeaseMoved):
        door.acquire(resource(), first + 1)
    assert door.acquire(resource(), first) == first + 1


def test_leave_is_refused_while_a_lease_is_held(space: Lockspace) -> None:
    door = joined(space)
    door.acquire(resource())
    with pytest.raises(LeaseInUse):
        door.remove_lockspace(space, HOST_ID)
    door.release(resource())
    door.remove_lockspace(space, HOST_ID)
    assert door.joined() == ()
    with pytest.raises(NotHeld):
        door.acquire(resource())


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"schema":1,"granted":-1}', b'{"schema":2}']
)
def test_join_refuses_a_file_that_says_nothing(space: Lockspace, data: bytes) -> None:
    space.path.write_bytes(data)
    with pytest.raises(NotALease):
        LocalLeases(at_once).add_lockspace(space, HOST_ID, 10)


def test_join_refuses_what_was_not_written_and_other_hosts(space: Lockspace) -> None:
    with pytest.raises(NotALease):
        LocalLeases(at_once).add_lockspace(space, HOST_ID, 10)
    door = joined(space)
    with pytest.raises(HostIdHeld):
        door.add_lockspace(space, 2, 10)
    elsewhere = Lockspace(NAME, space.path.with_name("copy"))
    with pytest.raises(HostIdHeld):
        door.add_lockspace(elsewhere, HOST_ID, 10)


def test_lease_is_granted_only_after_its_version_is_on_disk(space: Lockspace) -> None:
    door = joined(space)
    space.path.unlink()
    with pytest.raises(NotALease):
        door.acquire(resource())
    assert door.read_owner(resource()) is None


@pytest.mark.parametrize("name", ["read", "write_whole"])
def test_hanging_disk_holds_up_its_own_lockspace_only(
    space: Lockspace, name: str
) -> None:
    asked, hanging, go = (threading.Event() for _ in range(3))

    def slowly(request: FileWork) -> FileReplies:
        is_it = request.operations[0]["name"] == name
        if request.domain == NAME and is_it and asked.is_set():
            hanging.set()
            go.wait(END_S)
        return at_once(request)

    door = LocalLeases(slowly)
    other = Lockspace(f"{PREFIX}two", space.path.with_name("other"))
    for each in (space, other):
        door.write_lockspace(each, 10)
        door.add_lockspace(each, HOST_ID, 10)
    asked.set()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(door.acquire, resource())
        assert hanging.wait(END_S)
        assert door.acquire(Resource(other.name, "SDM", Path("/unused"), 0)) == 1
        assert door.is_lost(resource())
        assert len(door.joined()) == 2
        assert [each.host_id for each in door.hosts(NAME)] == [HOST_ID]
        assert door.read_owner(resource()) is None
        assert not slow.done()
        go.set()
        assert slow.result(END_S) == 1


def test_acquire_tells_that_the_disk_hangs(space: Lockspace) -> None:
    joined(space)

    def hang(_request: FileWork) -> FileReplies:
        raise StorageHangs("no answer")

    with pytest.raises(StorageHangs):
        LocalLeases(hang).add_lockspace(space, HOST_ID, 10)


class Dead(FakeLeases):
    """A sanlock that does not run."""

    def joined(self) -> tuple[()]:
        raise LeasesDown("no daemon")


def test_names_decide_who_grants(space: Lockspace, tmp_path: Path) -> None:
    shared = FakeLeases(FakeLeaseStorage(), "one")
    door: Leases = LeasesByName(LocalLeases(at_once), shared)
    other = Lockspace("shared", tmp_path / "ids")
    for each, host_id in ((space, HOST_ID), (other, 7)):
        door.write_lockspace(each, 10)
        door.add_lockspace(each, host_id, 10)
    assert [(j.name, j.host_id) for j in door.joined()] == [(NAME, 1), ("shared", 7)]
    assert [h.liveness for h in door.hosts(NAME)] == [Liveness.LIVE]
    door.write_resource(Resource("shared", "SDM", tmp_path / "leases", 0))
    assert door.acquire(Resource("shared", "SDM", tmp_path / "leases", 0)) == 1
    assert shared.is_joined(other, 7)


def test_local_leases_need_no_sanlock(space: Lockspace) -> None:
    door = LeasesByName(LocalLeases(at_once), Dead(FakeLeaseStorage(), "one"))
    door.write_lockspace(space, 10)
    door.add_lockspace(space, HOST_ID, 10)
    assert [each.name for each in door.joined()] == [NAME]
    with pytest.raises(Error):
        door.acquire(Resource("shared", "SDM", Path("/x"), 0))
