"""VMs on the kernel's NFS, where root is nobody and QEMU is no root."""

import functools
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from node.model.ids import DiskId, PoolId
from node.model.job import Job
from node.model.requests import ActOnVm
from node.model.storage import DomainState
from node.model.storage_requests import (
    ActOnDisk,
    ActOnStorageDomain,
    AttachStorageDomain,
    CopyDisk,
    MoveDisk,
)
from node.model.vm import Firmware, VmState
from node.storage.formats import layout as storage_layout
from node.vm.devices import firmware
from tests.lab.throwaway import guests, scene, writer
from tests.lab.throwaway import host as hosts
from tests.lab.throwaway.guests import Guest, Place
from tests.lab.throwaway.host import Host
from tests.lab.throwaway.node import wait_until
from tests.lab.throwaway.server import Server, run

# Version of NFS → the one where things are copied to.
OTHER: Final = {"3": "4.2", "4.0": "3", "4.1": "4.0", "4.2": "4.1"}


@pytest.fixture(scope="session")
def host(server: Server) -> Iterator[Host]:
    with hosts.running() as found:
        yield found


@pytest.fixture(scope="session")
def places(server: Server, host: Host) -> Mapping[str, Place]:
    """Return a storage domain for each version of NFS, of no pool yet."""
    found = {}
    for version in OTHER:
        connection = scene.nfs(server, version)
        folder = server.folder / Path(connection.path).name
        found[version] = Place(scene.make_domain(host, connection), folder)
    return found


@pytest.fixture(scope="session")
def pool_id(host: Host, places: Mapping[str, Place]) -> PoolId:
    """Return the pool of all storage domains."""
    master, *others = (each.storage_domain_id for each in places.values())
    pool_id = scene.make_pool(host, master)
    for key in others:
        attach = AttachStorageDomain(pool_id)
        host.done(host.storage.storage_domain_attach(key, attach))
        activate = host.storage.storage_domain_activate
        host.done(activate(key, ActOnStorageDomain()))
        is_active = functools.partial(scene.is_in, host, key, DomainState.ACTIVE)
        wait_until(is_active, "the storage domain")
    return pool_id


@pytest.fixture(params=("3", "4.2"))
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def guest(
    host: Host, pool_id: PoolId, places: Mapping[str, Place], version: str
) -> Iterator[Guest]:
    with guests.made(host, pool_id, places[version]) as found:
        yield found


def pause(guest: Guest) -> None:
    storage = guest.host.storage
    guest.host.done(storage.vm_pause(guest.vm_id, ActOnVm()))
    guest.host.done(storage.vm_resume(guest.vm_id, ActOnVm()))


def suspend(guest: Guest) -> None:
    guest.suspend()
    assert guest.memory_id is not None
    (memory,) = guest.place.files(guest.memory_id)
    check_owner(memory)
    guest.resume()
    wait_until(lambda: guest.memory_id is None, "the memory's removal")


# Ways for a guest to stand still and go on, as if nothing had been.
STANDSTILLS: Final[Mapping[str, Callable[[Guest], None]]] = {
    "paused": pause,
    "suspended": suspend,
}


@pytest.mark.parametrize("version", OTHER)
@pytest.mark.parametrize("way", STANDSTILLS)
def test_guest_goes_on_where_it_stood_still(guest: Guest, way: str) -> None:
    guest.start()
    STANDSTILLS[way](guest)
    guest.goes_on()
    guest.stop()
    guest.check()


@pytest.mark.parametrize("version", OTHER)
def test_guest_writes_while_snapshots_come_and_go(guest: Guest) -> None:
    guest.start()
    guest.check_user()
    first = guest.take()
    guest.goes_on()
    second = guest.take()
    guest.goes_on()
    assert guest.volumes == 3
    guest.merge(first)
    guest.goes_on()
    guest.merge(second)
    guest.goes_on()
    assert guest.volumes == 1
    guest.stop()
    guest.check()
    guest.start()


def test_guest_writes_while_its_snapshot_and_a_disk_are_copied_and_moved(
    guest: Guest, places: Mapping[str, Place], version: str
) -> None:
    host, other = guest.host, places[OTHER[version]]
    here, there = guest.place.storage_domain_id, other.storage_domain_id
    still = scene.make_disk(host, here)
    (leaf,) = guest.place.files(still)
    run("qemu-io", "-f", "qcow2", *scene.WRITE, str(leaf))
    guest.start()
    acked = guest.acked
    snapshot_id = guest.take()
    guest.goes_on()
    copied, kept = new_id(), new_id()
    request = CopyDisk(kept, there, "kept", snapshot_id=snapshot_id)
    write_meanwhile(guest, host.storage.disk_copy(guest.disk_id, request))
    request = CopyDisk(copied, here, "copied")
    write_meanwhile(guest, host.storage.disk_copy(still, request))
    write_meanwhile(guest, host.storage.disk_move(still, MoveDisk(there)))
    guest.merge(snapshot_id)
    guest.stop()
    guest.check()
    assert acked <= writer.stamps(other.content(kept)) <= guest.acked
    assert other.content(still) == guest.place.content(copied)
    (leaf,) = other.files(still)
    run("qemu-io", "-f", "qcow2", *scene.READ, str(leaf))
    for each in (still, copied, kept):
        host.done(host.storage.disk_delete(each, ActOnDisk()))


def test_guest_finds_its_pattern_after_an_offline_merge_and_a_move(
    guest: Guest, places: Mapping[str, Place], version: str
) -> None:
    host, other = guest.host, places[OTHER[version]]
    guest.start()
    snapshot_id = guest.take()
    guest.goes_on()
    guest.stop()
    assert guest.volumes == 2
    guest.merge(snapshot_id)
    assert guest.volumes == 1
    guest.check()
    copied, there = new_id(), other.storage_domain_id
    request = CopyDisk(copied, there, "copied")
    host.done(host.storage.disk_copy(guest.disk_id, request))
    assert writer.stamps(other.content(copied)) >= guest.acked
    host.done(host.storage.disk_delete(copied, ActOnDisk()))
    host.done(host.storage.disk_move(guest.disk_id, MoveDisk(there)))
    guest.place = other
    guest.check()
    guest.start()


def test_firmware_keeps_its_variables(
    host: Host, pool_id: PoolId, places: Mapping[str, Place], version: str
) -> None:
    place, blank = places[version], firmware.OVMF_VARIABLES.read_bytes()
    with guests.made(host, pool_id, place, Firmware.UEFI) as guest:
        guest.power_on()
        wait_until(lambda: guest.variables.read_bytes() != blank, "variables")
        check_owner(guest.variables)
        guest.suspend()
        kept = guest.variables.read_bytes()
        assert len(kept) == len(blank)
        guest.power_on()
        wait_until(lambda: guest.memory_id is None, "the memory's removal")
        guest.stop()
        check = host.storage.storage_domain_check
        assert check(place.storage_domain_id).problems == ()
        assert guest.variables.read_bytes() != blank


# What may be under way when the server falls silent.
BEGUN: Final[Mapping[str, Callable[[Guest], Job]]] = {
    "snapshot": Guest.taking,
    "merge": lambda guest: guest.merging(guest.take()),
    "copy": lambda guest: guest.host.storage.disk_copy(
        guest.disk_id,
        CopyDisk(
            new_id(), guest.place.storage_domain_id, "copied", snapshot_id=guest.take()
        ),
    ),
    "suspend": Guest.suspending,
}


@pytest.mark.parametrize("version", ["4.2"])
@pytest.mark.parametrize("begun", BEGUN)
def test_nothing_is_lost_when_the_server_falls_silent(
    server: Server, guest: Guest, begun: str
) -> None:
    host, where = guest.host, guest.place.storage_domain_id
    guest.start()
    job = BEGUN[begun](guest)
    with server.dead("silent"):
        is_told = functools.partial(scene.is_in, host, where, DomainState.UNREACHABLE)
        wait_until(is_told, "the storage domain's state")
    is_active = functools.partial(scene.is_in, host, where, DomainState.ACTIVE)
    healed_s = wait_until(is_active, "the storage domain")
    # A slow machine may be silent for so long that its leases are lost.
    wait_until(functools.partial(scene.manages, host, guest.pool_id), "a manager")
    job = host.ended(job)
    print(f"healed {healed_s:.1f} s, {job.state} {job.error}, the VM is {guest.state}")
    wait_until(lambda: guest.state in (VmState.UP, VmState.DOWN), "the VM")
    acked, before = guest.acked, len(guest.boots)
    if guest.state is VmState.DOWN:
        wait_until(guest.is_started, "a start")
    guest.goes_on()
    assert all(each >= acked for each in guest.boots[before:])
    guest.stop()
    guest.merge_all()
    guest.check()


def check_owner(path: Path) -> None:
    found = (path.stat().st_uid, path.stat().st_gid)
    assert found == (storage_layout.OWNER_ID, storage_layout.OWNER_ID)


def write_meanwhile(guest: Guest, job: Job) -> None:
    """Wait for the end of a job, and check that the guest goes on."""
    guest.host.done(job)
    guest.goes_on()


def new_id() -> DiskId:
    return DiskId(str(uuid.uuid4()))
