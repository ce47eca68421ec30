"""VMs and a host that the tests of this folder share."""

from pathlib import Path, PurePath

from node.contract.volumes import Layer, OpenVolume
from node.model.host import (
    CpuFacts,
    FirmwareFacts,
    Image,
    KvmFacts,
    NodeFacts,
    Versions,
)
from node.model.ids import DiskId, NicId, NodeId, VmId
from node.model.storage import DiskFormat
from node.model.vm import Disk, Nic, Vm, VmRun, VmSpec, VmState
from node.units import GiB, MiB
from node.vm import domxml
from tests.fakes.volumes import SD_ID, of_pool

AT = "2026-11-22T08:00:00.000Z"
VM_ID = VmId("aaaaaaaa-0000-4000-8000-000000000001")
OTHER_ID = VmId("aaaaaaaa-0000-4000-8000-000000000002")
NODE_ID = NodeId("eeeeeeee-0000-4000-8000-000000000001")
DISK = Disk(
    DiskId("bbbbbbbb-0000-4000-8000-000000000001"), "root", GiB, is_bootable=True
)
DATA = Disk(DiskId("bbbbbbbb-0000-4000-8000-000000000002"), "data", 2 * GiB)
TOOLS_ID = DiskId("bbbbbbbb-0000-4000-8000-000000000003")
NIC = Nic(
    NicId("cccccccc-0000-4000-8000-000000000001"), "lan", "52:54:00:00:00:01", "lan0"
)
SPEC = VmSpec(
    VM_ID, "web", 512 * MiB, disks=(DISK,), nics=(NIC,), machine="pc-q35-10.0"
)
VM = Vm(of_pool(SPEC), 1, AT, addresses=domxml.assign_addresses(SPEC), home=SD_ID)
DOWN = VmRun(VM_ID, NODE_ID, VmState.DOWN, AT)
HERE = domxml.Host(
    is_emulated=False,
    serial_log=Path("/var/lib/skerry/serial/web.log"),
    opened={
        disk_id: OpenVolume(
            (Layer(PurePath("/pool", f"{disk_id}.qcow2"), DiskFormat.QCOW2),)
        )
        for disk_id in (DISK.disk_id, DATA.disk_id, TOOLS_ID)
    },
    variables=Path("/pool/nvram.fd"),
)
IMAGES = {"debian": Image("debian", GiB, 300 * MiB)}
HOST = NodeFacts(
    node_id=NODE_ID,
    name="oak",
    address="192.0.2.1",
    boot_id="boot-1",
    booted_at="2026-11-22T07:00:00.000Z",
    versions=Versions("0.1.0", "6.12", "Debian 13", "11.3.0", "10.0.2"),
    features=("vm",),
    memory_bytes=8 * GiB,
    cpu=CpuFacts("EPYC", "AMD", "EPYC", (), 1, 4, 2, 1, 2400, ("Nehalem", "qemu64")),
    kvm=KvmFacts(True, "Linux version 6.12"),
    firmware=FirmwareFacts(),
    networks=("lan0", "lan1"),
    machines=("pc-q35-10.0", "pc-q35-9.2", "pc-i440fx-10.0"),
)
