"""What journals tell to do with definitions of VMs: read back, and followed."""

from dataclasses import replace

import pytest

from node.contract import definitions
from node.contract.definitions import Defined, DiskGone, DiskMoved, Placing
from node.contract.snapshots import Act, Change
from node.errors import Invalid
from node.model.ids import DiskId, SnapshotId, StorageDomainId, VmId, VolumeId
from node.model.storage import SnapshotKind, SnapshotState
from node.model.vm import Disk, Preview, Snapshot, SnapshotDisk, Vm, VmSpec
from node.units import GiB, MiB

VM_ID = VmId("aaaaaaaa-0000-4000-8000-000000000001")
ROOT, DATA = (DiskId(f"d15c0000-0000-4000-8000-00000000000{n}") for n in (1, 2))
HERE, THERE = (StorageDomainId(f"5d000000-0000-4000-8000-00000000000{n}") for n in "12")
S1 = SnapshotId("5a450000-0000-4000-8000-000000000001")
VOLUME = VolumeId("70100000-0000-4000-8000-000000000001")
AT = "2026-11-22T08:00:00.000Z"
SPEC = VmSpec(
    VM_ID,
    "web",
    GiB,
    disks=tuple(Disk(each, "d", MiB, storage_domain_id=HERE) for each in (ROOT, DATA)),
)
KEPT = Snapshot(
    *(S1, VM_ID, SnapshotKind.REGULAR, SnapshotState.OK, AT),
    disks=(SnapshotDisk(ROOT, VOLUME), SnapshotDisk(DATA, VOLUME)),
    spec=SPEC,
)
VM = Vm(
    SPEC,
    7,
    AT,
    addresses=((f"disk-{ROOT}", 4), (f"disk-{DATA}", 5), ("nic-1", 6)),
    snapshots=(KEPT,),
    preview=Preview(S1, SPEC),
)
MOVED = DiskMoved(DATA, VM_ID, HERE, THERE)
GONE = DiskGone(DATA, VM_ID)


@pytest.mark.parametrize(
    "defined",
    [
        pytest.param(Change(Act.DROP, VM_ID, S1), id="change"),
        pytest.param(Placing(VM_ID, HERE, 3, VM), id="placing"),
        pytest.param(MOVED, id="moved"),
        pytest.param(GONE, id="gone"),
    ],
)
def test_text_says_what_was_written_and_of_whom(defined: Defined) -> None:
    assert definitions.read(definitions.write(defined)) == defined
    assert definitions.subject(defined) == VM_ID


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"moves": "x"}', '{"loses": "x", "vm_id": "y", "z": 1}']
)
def test_text_that_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        definitions.read(text)


def specs(vm: Vm) -> list[VmSpec]:
    """Return all that a definition says a VM is, or was."""
    assert vm.preview is not None
    return [vm.spec, vm.preview.spec, *(e.spec for e in vm.snapshots if e.spec)]


def test_follow_names_a_moved_disk_where_it_is_now() -> None:
    after = definitions.follow(VM, MOVED)
    for spec in specs(after):
        assert [d.storage_domain_id for d in spec.disks] == [HERE, THERE]
    assert (after.generation, after.addresses) == (8, VM.addresses)


def test_follow_loses_a_disk_that_is_gone() -> None:
    after = definitions.follow(VM, GONE)
    for spec in specs(after):
        assert [d.disk_id for d in spec.disks] == [ROOT]
    assert after.addresses == ((f"disk-{ROOT}", 4), ("nic-1", 6))
    (kept,) = after.snapshots
    assert [each.disk_id for each in kept.disks] == [ROOT]
    assert after.generation == 8


@pytest.mark.parametrize("defined", [MOVED, GONE], ids=["moved", "gone"])
def test_follow_changes_nothing_when_it_is_told_again(
    defined: DiskMoved | DiskGone,
) -> None:
    after = definitions.follow(VM, defined)
    assert definitions.follow(after, defined) is after


def test_follow_leaves_a_disk_that_was_moved_elsewhere_before() -> None:
    elsewhere = replace(MOVED, source=StorageDomainId(VOLUME))
    assert definitions.follow(VM, elsewhere) is VM


@pytest.mark.parametrize(
    ("places", "home", "wanted"),
    [
        pytest.param([HERE, THERE], HERE, HERE, id="one-stays"),
        pytest.param([THERE, THERE], HERE, THERE, id="none-stays"),
        pytest.param([THERE, HERE], HERE, HERE, id="not-the-first-counts"),
        pytest.param([], HERE, HERE, id="no-disks"),
    ],
)
def test_home_stays_while_a_disk_is_there(
    places: list[StorageDomainId], home: StorageDomainId, wanted: StorageDomainId
) -> None:
    disks = tuple(Disk(ROOT, "d", MiB, storage_domain_id=each) for each in places)
    vm = replace(VM, spec=replace(SPEC, disks=disks))
    assert definitions.home_of(vm, home) == wanted


BARE = replace(SPEC, disks=())


@pytest.mark.parametrize(
    ("vm", "wanted"),
    [
        pytest.param(VM, True, id="it-has-it"),
        pytest.param(definitions.follow(VM, MOVED), False, id="elsewhere"),
        pytest.param(replace(VM, spec=BARE), True, id="before-its-preview"),
        pytest.param(replace(VM, spec=BARE, preview=None), True, id="in-a-snapshot"),
        pytest.param(definitions.follow(VM, GONE), False, id="it-lost-it"),
    ],
)
def test_names_tells_whose_disk_it_is(vm: Vm, wanted: bool) -> None:
    assert definitions.names(vm, DATA, HERE) is wanted
