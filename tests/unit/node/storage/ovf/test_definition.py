"""From a definition to a document and back: nothing of either is lost."""

from dataclasses import replace

import pytest

from node.model.ids import (
    DiskId,
    NicId,
    PoolId,
    SnapshotId,
    StorageDomainId,
    VmId,
    VolumeId,
)
from node.model.properties import CustomProperty
from node.model.storage import (
    ActualVolume,
    Allocation,
    DiskFormat,
    SnapshotKind,
    SnapshotState,
    VolumeKind,
)
from node.model.vm import (
    Cpu,
    CpuMode,
    Disk,
    DiskInterface,
    Firmware,
    Nic,
    Snapshot,
    SnapshotDisk,
    TemplateMark,
    Vm,
    VmSpec,
)
from node.storage.ovf import definition, document, reading, writing
from node.units import GiB, MiB
from tests.unit.node.storage.ovf import samples

NEWER = VolumeId("5e5a0fb0-3333-4b8e-9c53-000000000003")
AT = "2026-11-22T08:00:00.000Z"
DISK = DiskId(samples.DISK)
SAMPLE = samples.DOCUMENT.encode()


def volume(volume_id: str, parent: str | None, kind: VolumeKind) -> ActualVolume:
    return ActualVolume(
        VolumeId(volume_id),
        DISK,
        StorageDomainId(samples.STORAGE_DOMAIN),
        size_bytes=10 * GiB + MiB,
        allocated_bytes=MiB,
        disk_format=DiskFormat.QCOW2,
        allocation=Allocation.THIN,
        kind=kind,
        parent_id=None if parent is None else VolumeId(parent),
        created_at="2024-02-29T23:59:02.000Z",
    )


CHAIN = (
    volume(samples.BASE, None, VolumeKind.INTERNAL),
    volume(samples.LEAF, samples.BASE, VolumeKind.LEAF),
)
HOME = StorageDomainId(samples.STORAGE_DOMAIN)
LEAF = VolumeId(samples.LEAF)
ROOT = Disk(
    *(DISK, "root", 10 * GiB + MiB, None, True, HOME, LEAF),
    custom_properties=(CustomProperty("diskunmap", "on"),),
)
KEPT = Snapshot(
    SnapshotId(samples.OLD),
    VmId(samples.VM),
    SnapshotKind.REGULAR,
    SnapshotState.OK,
    "2024-03-01T10:00:00.000Z",
    "before",
    disks=(SnapshotDisk(DISK, VolumeId(samples.BASE)),),
)
VM = Vm(
    VmSpec(
        VmId(samples.VM),
        "web",
        GiB,
        Cpu(CpuMode.HOST_PASSTHROUGH, None, 2, 4, 2),
        Firmware.UEFI,
        (ROOT,),
        (
            Nic(
                *(NicId(samples.NIC), "nic1", "52:54:00:00:00:01", "ovirtmgmt"),
                custom_properties=(CustomProperty("macspoof", "true"),),
            ),
        ),
        "serves pages",
        "pc-q35-7.2",
        custom_properties=(
            CustomProperty("pincpu", "1-4"),
            CustomProperty("sap_agent", "true"),
        ),
    ),
    generation=7,
    created_at="2024-02-29T23:59:01.000Z",
)


@pytest.mark.parametrize("original", [b"", SAMPLE], ids=["new", "of-ovirt"])
def test_spec_of_returns_what_document_of_was_given(original: bytes) -> None:
    ovf = definition.document_of(VM, {DISK: CHAIN}, original)
    read = reading.read(writing.write(ovf, AT))
    assert definition.spec_of(read, {DISK: CHAIN}) == VM.spec
    assert (read.generation, read.created_at) == (7, VM.created_at)
    assert [each.volume_id for each in read.disks] == [samples.BASE, samples.LEAF]


@pytest.mark.parametrize("original", [b"", SAMPLE], ids=["new", "of-ovirt"])
@pytest.mark.parametrize("interface", DiskInterface)
def test_spec_of_finds_the_bus_that_document_of_was_given(
    interface: DiskInterface, original: bytes
) -> None:
    disks = (replace(ROOT, interface=interface),)
    vm = replace(VM, spec=replace(VM.spec, disks=disks))
    written = writing.write(definition.document_of(vm, {DISK: CHAIN}, original), AT)
    spec = definition.spec_of(reading.read(written), {DISK: CHAIN})
    assert spec.disks == disks


def test_document_of_keeps_a_bus_that_only_ovirt_has() -> None:
    there = SAMPLE.replace(b'"VirtIO_SCSI"', b'"SPAPR_VSCSI"')
    assert there != SAMPLE
    spec = definition.spec_of(reading.read(there), {DISK: CHAIN})
    assert spec.disks[0].interface is DiskInterface.VIRTIO_SCSI
    vm = replace(VM, spec=spec)
    ovf = definition.document_of(vm, {DISK: CHAIN}, there)
    assert ovf.disks[1].interface is document.DiskInterface.SPAPR_VSCSI


@pytest.mark.parametrize("original", [b"", SAMPLE], ids=["new", "of-ovirt"])
def test_document_of_tells_ovirt_of_an_i440fx(original: bytes) -> None:
    changed = replace(VM.spec, machine="pc-i440fx-7.2", firmware=Firmware.BIOS)
    ovf = definition.document_of(replace(VM, spec=changed), {DISK: CHAIN}, original)
    assert b"<BiosType>1</BiosType>" in writing.write(ovf, AT)


def test_document_of_keeps_what_only_the_document_knows() -> None:
    kept = replace(VM, snapshots=(KEPT,))
    ovf = definition.document_of(kept, {DISK: CHAIN}, SAMPLE)
    before = reading.read(SAMPLE)
    assert ovf.snapshots == before.snapshots
    assert ovf.nics[0].profile == "gold"
    assert ovf.disks[1].snapshot_id == samples.ACTIVE
    assert ovf.disks[1].wipe_after_delete
    assert ovf.has_secure_boot


def test_document_of_drops_secure_boot_with_uefi() -> None:
    bios = replace(VM, spec=replace(VM.spec, firmware=Firmware.BIOS))
    assert not definition.document_of(bios, {}, SAMPLE).has_secure_boot


def test_unplugged_disks_are_not_of_the_definition_and_stay_in_the_document() -> None:
    unplugged = samples.DOCUMENT.replace(
        "<BootOrder>1</BootOrder><IsPlugged>true",
        "<BootOrder>1</BootOrder><IsPlugged>false",
    )
    before = reading.read(unplugged.encode())
    spec = definition.spec_of(before, {})
    assert spec.disks == ()
    after = definition.document_of(replace(VM, spec=spec), {}, unplugged.encode())
    assert after.disks == before.disks


def test_missing_names_disks_that_are_not_there_and_luns() -> None:
    ovf = reading.read(SAMPLE)
    assert definition.missing(ovf, {}) == (DISK, samples.LUN)
    assert definition.missing(ovf, {DISK: CHAIN}) == (samples.LUN,)
    assert definition.spec_of(ovf, {}).disks == ()


def test_vm_of_has_the_snapshots_of_the_document() -> None:
    pool = PoolId(samples.POOL)
    vm = definition.vm_of(reading.read(SAMPLE), {DISK: CHAIN}, pool, HOME)
    assert vm.snapshots == (KEPT,)
    assert vm.snapshot_id == KEPT.snapshot_id
    assert vm.generation == 17
    assert (vm.home, vm.spec.pool_id) == (HOME, pool)
    (disk,) = vm.spec.disks
    assert (disk.volume_id, disk.storage_domain_id) == (LEAF, HOME)


def test_vm_of_takes_the_newest_volume_if_the_document_is_older() -> None:
    newer = volume(NEWER, samples.LEAF, VolumeKind.LEAF)
    chain = {DISK: (*CHAIN, newer)}
    vm = definition.vm_of(reading.read(SAMPLE), chain, PoolId(samples.POOL), HOME)
    assert vm.spec.disks[0].volume_id == NEWER
    assert vm.snapshots == (KEPT,)


def test_vm_of_leaves_out_a_snapshot_that_was_merged_since() -> None:
    alone = volume(samples.LEAF, None, VolumeKind.LEAF)
    pool = PoolId(samples.POOL)
    vm = definition.vm_of(reading.read(SAMPLE), {DISK: (alone,)}, pool, HOME)
    assert (vm.snapshots, vm.snapshot_id) == ((), None)
    assert vm.spec.disks[0].volume_id is None


@pytest.mark.parametrize("original", [b"", SAMPLE], ids=["new", "of-ovirt"])
def test_vm_of_returns_what_document_of_was_given(original: bytes) -> None:
    pool = PoolId(samples.POOL)
    spec = replace(VM.spec, pool_id=pool)
    vm = replace(
        VM, spec=spec, home=HOME, snapshots=(KEPT,), snapshot_id=KEPT.snapshot_id
    )
    ovf = definition.document_of(vm, {DISK: CHAIN}, original)
    read = reading.read(writing.write(ovf, AT))
    assert definition.vm_of(read, {DISK: CHAIN}, pool, HOME) == vm
    assert {each.pool_id for each in read.disks} == {pool}


def test_document_of_a_template_says_so() -> None:
    template = replace(VM, template=TemplateMark())
    ovf = definition.document_of(template, {DISK: CHAIN})
    assert reading.read(writing.write(ovf, AT)).is_template
