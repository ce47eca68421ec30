"""What was confirmed is there after a power cut, on a disk with sectors of 4 KiB.

One host does its work once, on a disk whose writes are logged. Then the disk is made
as it was at many instants, one of each step, and a host that knows nothing else
takes it over.
"""

import contextlib
import functools
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import pytest

from node.model.ids import DiskId, SnapshotId, VmId
from node.model.storage import (
    Allocation,
    Connection,
    DiskFormat,
    DomainState,
    DomainType,
    StorageDomain,
)
from node.model.storage_requests import (
    ActOnDisk,
    BecomeSpm,
    ConnectPool,
    CopyDisk,
    RepairStorage,
)
from tests.lab.throwaway import host as hosts
from tests.lab.throwaway import power, scene, writer
from tests.lab.throwaway.guests import Guest, Place
from tests.lab.throwaway.host import Host
from tests.lab.throwaway.node import wait_until
from tests.lab.throwaway.server import run
from tests.lab.throwaway.write_log import Entry

SEED: Final = 3
POINTS: Final = 16  # as many as there are steps


@dataclass(slots=True)
class Promised:
    """What a host has confirmed, and did not begin to take back."""

    disks: set[str] = field(default_factory=set)
    snapshots: set[str] = field(default_factory=set)
    acked: int = 0

    def note(self, mark: str) -> None:
        """Add what a mark says."""
        word, _, value = mark.partition(":")
        kept = {"disk": self.disks, "snapshot": self.snapshots}.get(word)
        if kept is not None:
            kept.add(value)
        elif word == "ends":
            self.disks.discard(value)
            self.snapshots.discard(value)
        elif word == "acked":
            self.acked = int(value)


@dataclass(frozen=True, slots=True)
class Course:
    """What was done on the disk."""

    disk: power.Disk
    entries: Sequence[Entry]
    guest: Guest
    storage_domain: StorageDomain

    def instant(self, point: int, rng: random.Random) -> int:
        """Return after which entry the power fails: each step has its turn."""
        marks = [n for n, each in enumerate(self.entries) if each.mark]
        step = point % (len(marks) - 1)
        return rng.randrange(marks[step], marks[step + 1])

    def promised(self, last: int) -> Promised:
        found = Promised()
        for each in self.entries[: last + 1]:
            found.note(each.mark)
        return found


@pytest.fixture(scope="session")
def daemons() -> Iterator[None]:
    with hosts.daemons():
        yield


@pytest.fixture(scope="session")
def course(daemons: None) -> Course:
    disk = power.made()
    connection = Connection(DomainType.POSIXFS, str(disk.link), file_system="ext4")
    with disk.seen(), hosts.serving() as host:
        key = scene.make_domain(host, connection)
        pool_id = scene.make_pool(host, key)
        known = host.storage.storage_domain_show(key).storage_domain
        guest = Guest(host, pool_id, Place(key, disk.folder))
        guest.make()
        guest.start()
        work(disk, guest)
    return Course(disk, disk.entries(), guest, known)


@contextlib.contextmanager
def newcomer(course: Course) -> Iterator[Guest]:
    """Let a host that knows nothing find the pool on the disk, and manage it."""
    known, pool_id = course.storage_domain, course.guest.pool_id
    with course.disk.seen(), hosts.serving() as host:
        request = ConnectPool("of-power", (replace(known, pool_id=None),))
        host.done(host.storage.pool_connect(pool_id, request))
        host.done(host.storage.spm_become(pool_id, BecomeSpm()))
        key = known.storage_domain_id
        is_active = functools.partial(scene.is_in, host, key, DomainState.ACTIVE)
        wait_until(is_active, "the storage domain")
        yield replace(course.guest, host=host)


def vm_ids(host: Host) -> set[VmId]:
    return {each.vm.spec.vm_id for each in host.storage.vm_list().vms}


def work(disk: power.Disk, guest: Guest) -> None:
    """Make, copy and delete disks, snapshot and merge; mark what is confirmed."""
    host, where = guest.host, guest.place.storage_domain_id
    disk.mark(f"disk:{guest.disk_id}")

    def write() -> None:
        guest.goes_on()
        disk.mark(f"acked:{guest.acked}")

    def take() -> SnapshotId:
        made = guest.take()
        disk.mark(f"snapshot:{made}")
        write()
        return made

    def merge(snapshot_id: SnapshotId) -> None:
        disk.mark(f"ends:{snapshot_id}")
        guest.merge(snapshot_id)
        write()

    def make(disk_format: DiskFormat, allocation: Allocation) -> DiskId:
        made = scene.make_disk(host, where, disk_format, allocation)
        disk.mark(f"disk:{made}")
        return made

    write()
    raw = make(DiskFormat.RAW, Allocation.PREALLOCATED)
    first = take()
    copied = DiskId(str(uuid.uuid4()))
    host.done(host.storage.disk_copy(raw, CopyDisk(copied, where, "copied")))
    disk.mark(f"disk:{copied}")
    second = take()
    merge(first)
    disk.mark(f"ends:{raw}")
    host.done(host.storage.disk_delete(raw, ActOnDisk()))
    third = take()
    merge(third)
    guest.stop()
    disk.mark(f"ends:{second}")
    guest.merge(second)
    disk.mark("end")


@pytest.mark.parametrize("point", range(POINTS))
def test_what_was_confirmed_is_there_after_a_power_cut(
    course: Course, point: int
) -> None:
    rng = random.Random(f"{SEED} {point}")
    last = course.instant(point, rng)
    promised = course.promised(last)
    print(f"after entry {last} of {len(course.entries)}: {promised}")
    with course.disk.cut(course.entries, last, rng), newcomer(course) as guest:
        check(guest, promised)


def check(guest: Guest, promised: Promised) -> None:
    """Check that all is there, and that nothing is left for people to mend."""
    host, where = guest.host, guest.place.storage_domain_id
    wait_until(lambda: guest.vm_id in vm_ids(host), "the VM")
    wait_until(lambda: promised.disks <= scene.disk_ids(host), "the disks")
    guest.boot(promised.acked)
    guest.stop()
    assert promised.snapshots <= set(guest.snapshots)
    wait_until(lambda: not guest.is_being_taken, "the snapshot that was begun")
    guest.merge_all()
    host.done(host.storage.storage_domain_repair(where, RepairStorage()))
    assert host.storage.storage_domain_check(where).problems == ()
    content = guest.place.content(guest.disk_id, may_leak=True)
    assert writer.stamps(content) >= promised.acked
    for key in promised.disks:
        (leaf,) = guest.place.files(DiskId(key))
        if host.storage.disk_show(DiskId(key)).disk_format is DiskFormat.QCOW2:
            # What was allocated and not noted costs space, and nothing else.
            run("qemu-img", "check", "-q", "-r", "leaks", "-f", "qcow2", str(leaf))
