"""OVF documents: one of oVirt's by hand, properties, and hostile ones."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

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
from node.model.storage import Allocation, DiskFormat, SnapshotKind
from node.model.vm import Cpu, CpuMode, Firmware
from node.storage.ovf import document, reading, writing
from node.storage.ovf.document import (
    DOCUMENT_MAX,
    DamagedOvf,
    DiskInterface,
    OvfDisk,
    OvfNic,
    OvfSnapshot,
    OvfVm,
)
from node.units import GiB, MiB
from tests.unit.node.storage.ovf import samples

AT = "2026-11-22T08:00:00.000Z"
SAMPLE = samples.DOCUMENT.encode()


def test_read_tells_what_ovirt_wrote() -> None:
    base = OvfDisk(
        DiskId(samples.DISK),
        VolumeId(samples.BASE),
        "web root",
        10 * GiB,
        3 * GiB,
        DiskFormat.RAW,
        Allocation.PREALLOCATED,
        DiskInterface.VIRTIO_SCSI,
        snapshot_id=SnapshotId(samples.OLD),
        description="the system",
        is_bootable=True,
        wipe_after_delete=True,
    )
    leaf = replace(
        base,
        volume_id=VolumeId(samples.LEAF),
        allocated_bytes=196688,
        disk_format=DiskFormat.QCOW2,
        allocation=Allocation.THIN,
        parent_id=VolumeId(samples.BASE),
        snapshot_id=SnapshotId(samples.ACTIVE),
        storage_domain_id=StorageDomainId(samples.STORAGE_DOMAIN),
        pool_id=PoolId(samples.POOL),
        created_at="2024-02-29T23:59:02.000Z",
        custom_properties=(CustomProperty("diskunmap", "on"),),
    )
    places = (samples.STORAGE_DOMAIN, samples.POOL)
    assert reading.read(SAMPLE) == OvfVm(
        VmId(samples.VM),
        "web",
        2048 * MiB,
        "serves pages & more",
        Cpu(CpuMode.NAMED, "Skylake-Client", 2, 2, 1),
        Firmware.UEFI,
        has_secure_boot=True,
        machine="pc-q35-rhel8.4.0",
        disks=(base, leaf),
        nics=(
            OvfNic(
                *(NicId(samples.NIC), "nic1", "56:6f:00:00:00:01", "ovirtmgmt"),
                "gold",
                custom_properties=(
                    CustomProperty("macspoof", "true"),
                    CustomProperty("vmfex", "gold"),
                ),
            ),
        ),
        snapshots=(
            OvfSnapshot(
                SnapshotId(samples.ACTIVE),
                SnapshotKind.ACTIVE,
                "Active VM",
                "2024-02-29T23:59:01.000Z",
            ),
            OvfSnapshot(
                SnapshotId(samples.OLD),
                SnapshotKind.REGULAR,
                "before",
                "2024-03-01T10:00:00.000Z",
                (*places, samples.DISK, samples.BASE, samples.DISK, samples.LEAF),
                b"<ovf/>",
            ),
        ),
        generation=17,
        created_at="2024-02-29T23:59:01.000Z",
        unsupported_disks=(samples.LUN,),
        custom_properties=(
            CustomProperty("hugepages", "2048"),
            CustomProperty("sap_agent", "true"),
            CustomProperty("smbios", "{'serial':'a=1 & 2'}"),
        ),
    )


def test_active_disks_are_what_the_vm_runs_on() -> None:
    (disk,) = document.active_disks(reading.read(SAMPLE))
    assert disk.volume_id == samples.LEAF


def test_active_disks_are_leaves_when_no_snapshot_is_told() -> None:
    vm = replace(reading.read(SAMPLE), snapshots=())
    (disk,) = document.active_disks(vm)
    assert disk.volume_id == samples.LEAF


@pytest.mark.parametrize(
    "kept",
    [
        "<Comment>mind the cat</Comment>",
        "<DeleteProtected>true</DeleteProtected>",
        '<VmInit ovf:hostname="web" ovf:timeZone="Etc/GMT"/>',
        '<AffinityGroup ovf:name="apart"/>',
        '<Connection ovf:iqn="iqn.2020-01.org.example:1"/>',
        f'<File ovf:id="{samples.LUN}"',
        "<Device>memballoon</Device>",
        "<Description>rhel_8x64</Description>",
        "<rasd:ApplicationList>kernel-4.18</rasd:ApplicationList>",
        "<BootOrder>1</BootOrder>",
        "<Alias>ua-1</Alias>",
        "{type=drive, unit=0}",
        'ovf:pass-discard="true"',
        "<MaxMemorySizeMb>8192</MaxMemorySizeMb>",
    ],
)
def test_write_keeps_what_only_ovirt_knows(kept: str) -> None:
    vm = replace(reading.read(SAMPLE), name="web2", memory_bytes=GiB)
    written = writing.write(vm, AT).decode()
    assert kept in written
    assert reading.read(written.encode()) == vm


def test_write_removes_disks_and_cards_that_are_gone() -> None:
    vm = replace(reading.read(SAMPLE), disks=(), nics=(), snapshots=())
    written = writing.write(vm, AT).decode()
    assert reading.read(written.encode()) == vm
    assert samples.LEAF not in written
    assert samples.LUN in written


@pytest.mark.parametrize(
    ("version", "number", "expected"),
    [
        ("4.3.10", "0", (Firmware.BIOS, False)),
        ("4.3.10", "1", (Firmware.BIOS, False)),
        ("4.3.10", "2", (Firmware.UEFI, False)),
        ("4.3.10", "3", (Firmware.UEFI, True)),
        ("4.4.0.0", "0", (Firmware.BIOS, False)),
        ("4.4.0.0", "1", (Firmware.BIOS, False)),
        ("4.5.5", "3", (Firmware.UEFI, False)),
        ("4.5.5", "4", (Firmware.UEFI, True)),
        ("4.5.5", "", (Firmware.BIOS, False)),
        ("4.10.1", "3", (Firmware.UEFI, False)),
    ],
)
def test_firmware_is_numbered_by_the_engine_that_wrote(
    version: str, number: str, expected: tuple[Firmware, bool]
) -> None:
    data = samples.DOCUMENT.replace("4.4.10.0", version).replace(
        "<BiosType>4</BiosType>", f"<BiosType>{number}</BiosType>"
    )
    vm = reading.read(data.encode())
    assert (vm.firmware, vm.has_secure_boot) == expected
    written = writing.write(vm, AT).decode()
    assert f"<BiosType>{number}</BiosType>" in written or not number
    for wanted in (Firmware.BIOS, Firmware.UEFI):
        changed = replace(vm, firmware=wanted, has_secure_boot=False)
        assert reading.read(writing.write(changed, AT)) == changed


def test_write_gives_ovirts_reader_what_it_does_not_check_for() -> None:
    vm = replace(reading.read(SAMPLE), original=b"")
    written = writing.write(vm, AT).decode()
    for needed in (
        "<Generation>17</Generation>",
        "<ClusterCompatibilityVersion>4.4</ClusterCompatibilityVersion>",
        "<ExportDate>2026/11/22 08:00:00</ExportDate>",
        "<rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits>",
        "<rasd:UsbPolicy>DISABLED</rasd:UsbPolicy>",
        f'ovf:parentRef="{samples.DISK}/{samples.BASE}"',
        'ovf:size="10"',
        'ovf:volume-format="COW"',
        'xsi:type="ovf:OperatingSystemSection_Type"',
        "<MinAllocatedMem>2048</MinAllocatedMem>",
        "<rasd:HostResource>" + f"{samples.DISK}/{samples.LEAF}",
    ):
        assert needed in written


def test_a_template_is_told_by_its_type_or_by_being_its_own() -> None:
    vm = reading.read(SAMPLE)
    assert not vm.is_template
    template = replace(vm, is_template=True)
    written = writing.write(template, AT).decode()
    assert "<TemplateType>TEMPLATE</TemplateType>" in written
    assert reading.read(written.encode()) == template
    own = samples.DOCUMENT.replace(
        f"<TemplateId>{samples.NOTHING}", f"<TemplateId>{samples.VM}"
    )
    assert reading.read(own.encode()).is_template


def test_write_rounds_sizes_up_as_ovirt_counts_in_gibibytes() -> None:
    vm = reading.read(SAMPLE)
    disk = replace(vm.disks[1], size_bytes=GiB + 1)
    written = writing.write(replace(vm, disks=(disk,)), AT)
    assert reading.read(written).disks[0].size_bytes == 2 * GiB


_uuids = some.integers(1, 999).map(lambda n: f"{samples.VM[:-3]}{n:03}")
_words = some.text("ab é<&\"'>]漢😀", min_size=1, max_size=8).filter(
    lambda word: word == word.strip()
)
_properties = some.lists(
    some.builds(
        CustomProperty,
        some.sampled_from(["sndbuf", "hugepages", "smbios", "pincpu"]),
        some.text("ab =é<&\"'>,:😀", min_size=1, max_size=8),
    ),
    max_size=3,
    unique_by=lambda each: each.name,
).map(lambda found: tuple(sorted(found, key=lambda each: each.name)))
_dates = some.none() | some.just("2024-02-29T23:59:01.000Z")
_cpus = some.builds(
    Cpu,
    some.sampled_from([CpuMode.HOST_MODEL, CpuMode.HOST_PASSTHROUGH]),
    some.none(),
    some.integers(1, 64),
    some.integers(1, 64),
    some.integers(1, 8),
) | some.builds(Cpu, some.just(CpuMode.NAMED), _words)
_disks = some.builds(
    OvfDisk,
    disk_id=_uuids,
    volume_id=_uuids,
    name=_words,
    size_bytes=some.integers(1, 4096).map(lambda gib: gib * GiB),
    allocated_bytes=some.integers(0, 1 << 40),
    disk_format=some.sampled_from(DiskFormat),
    allocation=some.sampled_from(Allocation),
    interface=some.sampled_from(DiskInterface),
    parent_id=some.none() | _uuids,
    storage_domain_id=some.none() | _uuids,
    snapshot_id=some.none() | _uuids,
    description=some.just("") | _words,
    created_at=_dates,
    is_bootable=some.booleans(),
    is_plugged=some.booleans(),
    wipe_after_delete=some.booleans(),
    custom_properties=_properties,
)
_nics = some.builds(
    OvfNic,
    nic_id=_uuids,
    name=_words,
    mac=some.sampled_from(["", "52:54:00:00:00:01"]),
    network=some.none() | _words,
    profile=some.just("") | _words,
    is_linked=some.booleans(),
    model=some.integers(0, 6),
    custom_properties=_properties,
)
_snapshots = some.builds(
    OvfSnapshot,
    snapshot_id=_uuids,
    kind=some.sampled_from(SnapshotKind),
    description=some.just("") | _words,
    created_at=_dates,
    memory=some.just(()) | some.tuples(*6 * [_uuids]),
    configuration=some.binary(),
)
_vms = some.builds(
    OvfVm,
    vm_id=_uuids,
    name=_words,
    memory_bytes=some.integers(1, 1 << 20).map(lambda mib: mib * MiB),
    description=some.just("") | _words,
    cpu=_cpus,
    firmware=some.just(Firmware.BIOS),
    machine=some.none() | some.just("pc-q35-7.2"),
    disks=some.lists(_disks, max_size=3, unique_by=lambda each: each.volume_id).map(
        tuple
    ),
    nics=some.lists(_nics, max_size=3, unique_by=lambda each: each.nic_id).map(tuple),
    snapshots=some.lists(
        _snapshots, max_size=3, unique_by=lambda each: each.snapshot_id
    ).map(tuple),
    generation=some.integers(0, 1 << 40),
    created_at=_dates,
    # One that is its own template is a template, says oVirt.
    template_id=some.none() | some.just(samples.OLD),
    custom_properties=_properties,
)


@given(vm=_vms)
def test_read_tells_what_was_written(vm: OvfVm) -> None:
    assert reading.read(writing.write(vm, AT)) == vm


@given(vm=_vms)
def test_write_changes_any_document_into_any_other(vm: OvfVm) -> None:
    changed = replace(vm, original=SAMPLE, unsupported_disks=(samples.LUN,))
    assert reading.read(writing.write(changed, AT)) == changed


@given(text=some.text())
def test_write_survives_whatever_people_type(text: str) -> None:
    vm = replace(reading.read(SAMPLE), name=text, description=text)
    read = reading.read(writing.write(vm, AT))
    if text.isprintable():
        assert (read.name, read.description) == (text, text)


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<Envelope>&b;</Envelope>"
)
DEEP = "<Envelope>" + 1000 * "<a>" + 1000 * "</a>" + "</Envelope>"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        pytest.param(b"", "not XML", id="empty"),
        pytest.param(b"\0\xff\xfe", "not XML", id="garbage"),
        pytest.param(SAMPLE[:-20], "not XML", id="cut"),
        pytest.param(BOMB.encode(), "document type", id="entity-bomb"),
        pytest.param(BOMB.encode("utf-16"), "not XML", id="entity-bomb-in-utf-16"),
        pytest.param(DEEP.encode(), "not XML", id="deep"),
        pytest.param(b"<html/>", "is a html", id="another-kind"),
        pytest.param(b"<Envelope/>", "no content", id="no-content"),
        pytest.param(
            b"<Envelope><Content/></Envelope>", "no hardware", id="no-hardware"
        ),
        pytest.param(b" " * (DOCUMENT_MAX + 1), "bytes", id="large"),
    ],
)
def test_read_refuses_what_is_no_document(data: bytes, complaint: str) -> None:
    with pytest.raises(DamagedOvf, match=complaint):
        reading.read(data)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        pytest.param(samples.VM, "../../etc", "the VM's id must be", id="vm-id"),
        pytest.param(
            f'href="{samples.DISK}/', 'href="../', "the file's disk must be", id="disk"
        ),
        pytest.param(
            f'href="{samples.DISK}/{samples.LEAF}',
            f'href="{samples.DISK}/x',
            "the file's volume must be",
            id="volume",
        ),
        pytest.param(
            f'href="{samples.DISK}/{samples.LEAF}',
            f'href="{samples.DISK}/{samples.BASE}',
            "disagree",
            id="other-volume",
        ),
        pytest.param(
            f'diskId="{samples.LEAF}',
            f'diskId="{samples.NIC}',
            "has no file",
            id="no-file",
        ),
        pytest.param('size="10"', 'size="-1"', "must be a number", id="size"),
        pytest.param(
            ">2048</rasd", f">{'9' * 16}</rasd", "must be a number", id="memory"
        ),
        pytest.param("56:6F:", "56:6F:zz:", "no MAC address", id="mac"),
        pytest.param(
            f">{samples.BASE}</rasd:Parent",
            ">x</rasd:Parent",
            "Parent must be a UUID",
            id="parent",
        ),
        pytest.param("PG92Zi8+", "PG92Zi8", "configuration is damaged", id="base64"),
    ],
)
def test_read_refuses_values_that_cannot_be(old: str, new: str, complaint: str) -> None:
    damaged = samples.DOCUMENT.replace(old, new)
    assert damaged != samples.DOCUMENT
    with pytest.raises(DamagedOvf, match=complaint):
        reading.read(damaged.encode())


@given(data=some.data())
def test_read_of_a_damaged_document_never_crashes(data: some.DataObject) -> None:
    start = data.draw(some.integers(0, len(SAMPLE)))
    length = data.draw(some.integers(0, 40))
    damage = data.draw(some.binary(max_size=40))
    damaged = SAMPLE[:start] + damage + SAMPLE[start + length :]
    with contextlib.suppress(DamagedOvf):
        writing.write(reading.read(damaged), AT)
