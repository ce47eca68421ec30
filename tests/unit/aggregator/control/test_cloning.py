"""What a VM is that is made of a snapshot."""

from dataclasses import replace

import pytest

from aggregator.control import cloning
from aggregator.control.cloning import SnapshotNotFound
from aggregator.control.routes import VmNotFound, VmPoolUnknown
from aggregator.federation.view import View
from node.model.ids import NicId, SnapshotId, VmId, VolumeId
from node.model.storage import SnapshotKind, SnapshotState
from node.model.vm import Disk, Nic, Snapshot, SnapshotDisk
from tests.fakes import fleet
from tests.unit.aggregator.control.ordering import say, view_of

VM, NEW = fleet.vm_id(7), VmId("aaaa0000-0000-4000-8000-000000000007")
S1 = SnapshotId("5a450000-0000-4000-8000-000000000001")
KEPT, LATER = fleet.disk_id(1), fleet.disk_id(2)
DISK = Disk(
    KEPT, "system", 1, storage_domain_id=fleet.domain_id(1), volume_id=VolumeId("v")
)
CARD = Nic(
    NicId("aaaa0000-0000-4000-8000-0000000000c1"), "nic1", "56:6f:00:00:00:01", "lan"
)


def view() -> View:
    """Return a VM with a snapshot, which has another disk since, lying elsewhere."""
    was = fleet.spec(7, "db", disks=(DISK,), nics=(CARD,), pool_id=fleet.pool_id())
    moved = replace(DISK, storage_domain_id=fleet.domain_id(2))
    disks = (moved, replace(DISK, disk_id=LATER))
    kind, state = SnapshotKind.REGULAR, SnapshotState.OK
    kept = (SnapshotDisk(KEPT, VolumeId("v")),)
    snapshot = Snapshot(S1, VM, kind, state, fleet.AT, disks=kept, spec=was)
    vm = fleet.vm(7, spec=replace(was, disks=disks), snapshots=(snapshot,))
    return say(view_of(1, 2), 1, vm, fleet.run(7, 1))


def test_clone_has_copies_of_what_was_kept_where_it_lies_now() -> None:
    spec, copied = cloning.of_snapshot(view(), VM, S1, NEW, "db2")
    (disk,) = spec.disks
    assert (spec.vm_id, spec.name) == (NEW, "db2")
    assert copied.disks == ((disk.disk_id, KEPT),)
    assert disk.disk_id != KEPT
    assert (disk.volume_id, disk.storage_domain_id) == (None, fleet.domain_id(2))


def test_clone_has_cards_with_other_addresses() -> None:
    spec, _ = cloning.of_snapshot(view(), VM, S1, NEW, "db2")
    (card,) = spec.nics
    assert (card.name, card.network) == ("nic1", "lan")
    assert card.mac != CARD.mac
    assert card.nic_id != CARD.nic_id


def test_clone_is_the_same_when_it_is_there_already() -> None:
    first, _ = cloning.of_snapshot(view(), VM, S1, NEW, "db2")
    seen = say(view(), 1, replace(fleet.vm(7), spec=first))
    assert cloning.of_snapshot(seen, VM, S1, NEW, "db2")[0] == first


def test_clone_is_refused_of_what_is_not_there() -> None:
    seen = view()
    with pytest.raises(VmNotFound):
        cloning.of_snapshot(seen, NEW, S1, NEW, "x")
    with pytest.raises(SnapshotNotFound):
        cloning.of_snapshot(seen, VM, SnapshotId(NEW), NEW, "x")
    untold = say(seen, 1, fleet.run(8, 1))
    with pytest.raises(VmPoolUnknown):
        cloning.of_snapshot(untold, fleet.vm_id(8), S1, NEW, "x")
