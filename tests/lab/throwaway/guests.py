"""A VM on the VM's own NFS whose guest only writes, and says what it has written."""

import contextlib
import pwd
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from node.errors import Busy, Error
from node.model.ids import DiskId, PoolId, SnapshotId, StorageDomainId, VmId
from node.model.job import Job, JobState
from node.model.requests import CreateVm, DeleteVm, StartVm, StopManner, StopVm
from node.model.storage import DiskFormat, SnapshotState
from node.model.storage_requests import CreateSnapshot, DeleteSnapshot, SuspendVm
from node.model.vm import Disk, Firmware, VmSpec, VmState
from node.storage.formats import layout
from node.units import MiB
from tests.lab.throwaway import writer
from tests.lab.throwaway.host import Host
from tests.lab.throwaway.node import wait_until
from tests.lab.throwaway.server import run

SIZE: Final = 16 * MiB  # stamps of many minutes
MORE: Final = 10  # stamps that show that a guest goes on
_MEMORY: Final = {Firmware.BIOS: 64 * MiB, Firmware.UEFI: 128 * MiB}
_QEMU_USER: Final = "libvirt-qemu"


@dataclass(frozen=True, slots=True)
class Place:
    """A storage domain, and where the server has its files."""

    storage_domain_id: StorageDomainId
    folder: Path

    def files(self, disk_id: DiskId) -> list[Path]:
        """Return a disk's volumes, as root sees them on the server."""
        folder = self.folder / self.storage_domain_id / "images" / disk_id
        return [each for each in folder.iterdir() if "." not in each.name]

    def content(self, disk_id: DiskId, *, may_leak: bool = False) -> bytes:
        """Return what is on a disk of one whole volume that nobody writes.

        `may_leak`: clusters may be allocated and not noted, as after a power cut.
        """
        (leaf,) = self.files(disk_id)
        mended = ("-r", "leaks") if may_leak else ()
        run("qemu-img", "check", "-q", *mended, "-f", "qcow2", str(leaf))
        with tempfile.TemporaryDirectory(dir="/run") as folder:
            raw = Path(folder) / "raw"
            kinds = ("-f", "qcow2", "-O", "raw")
            run("qemu-img", "convert", *kinds, str(leaf), str(raw))
            return raw.read_bytes()


@dataclass(slots=True)
class Guest:
    """A VM of one disk, and what its guest has to have written."""

    host: Host
    pool_id: PoolId
    place: Place
    vm_id: VmId = field(default_factory=lambda: VmId(str(uuid.uuid4())))
    disk_id: DiskId = field(default_factory=lambda: DiskId(str(uuid.uuid4())))
    firmware: Firmware = Firmware.BIOS  # of UEFI, the writer does not run

    def make(self) -> None:
        disk = Disk(
            *(self.disk_id, f"disk-{self.disk_id[:8]}", SIZE),
            is_bootable=True,
            storage_domain_id=self.place.storage_domain_id,
            disk_format=DiskFormat.QCOW2,
        )
        spec = VmSpec(
            *(self.vm_id, f"vm-{self.vm_id[:8]}", _MEMORY[self.firmware]),
            firmware=self.firmware,
            disks=(disk,),
            pool_id=self.pool_id,
        )
        wait_until(lambda: self._is_made(CreateVm(spec)), "the VM")
        (leaf,) = self.place.files(self.disk_id)
        with tempfile.TemporaryDirectory(dir="/run") as folder:
            sector = writer.build(Path(folder))
            write = f"write -s {sector} 0 {writer.SECTOR}"
            run("qemu-io", "-f", "qcow2", "-c", write, str(leaf))

    def start(self) -> None:
        """Start the VM, and check that its guest finds all that it has written."""
        self.boot(self.acked)
        self.goes_on()

    def boot(self, stamps: int) -> None:
        """Start the VM, and check that its guest finds as many stamps, or more."""
        before = len(self.boots)
        self.power_on()
        wait_until(lambda: len(self.boots) > before, "the guest")
        assert self.boots[-1] >= stamps

    def power_on(self) -> None:
        """Start QEMU, with the guest's memory if it was kept."""
        self.host.done(self.host.storage.vm_start(self.vm_id, StartVm()))

    def goes_on(self) -> None:
        """Wait until the guest has written some more."""
        acked = self.acked
        wait_until(lambda: self.acked >= acked + MORE, "more stamps")
        assert self._told("F") == []

    def stop(self) -> None:
        """End QEMU."""
        request = StopVm(manner=StopManner.FORCE)
        self.host.done(self.host.storage.vm_stop(self.vm_id, request))

    def suspend(self) -> None:
        """Keep the guest's memory beside its disk, and end QEMU."""
        self.host.done(self.suspending())

    def suspending(self) -> Job:
        return self.host.storage.vm_suspend(self.vm_id, SuspendVm())

    def resume(self) -> None:
        """Let a suspended guest go on where it was: it does not boot."""
        before = len(self.boots)
        self.power_on()
        self.goes_on()
        assert len(self.boots) == before

    def check(self) -> None:
        """Check the disk of the VM, which is down and has no snapshot."""
        assert writer.stamps(self.place.content(self.disk_id)) >= self.acked
        check = self.host.storage.storage_domain_check
        assert check(self.place.storage_domain_id).problems == ()

    def take(self) -> SnapshotId:
        """Take a snapshot."""
        made = SnapshotId(str(uuid.uuid4()))
        self.host.done(self.taking(made))
        return made

    def taking(self, snapshot_id: SnapshotId | None = None) -> Job:
        made = snapshot_id or SnapshotId(str(uuid.uuid4()))
        request = CreateSnapshot(made, description="a snapshot")
        return self.host.storage.vm_snapshot_create(self.vm_id, request)

    def merge(self, snapshot_id: SnapshotId) -> None:
        """Delete a snapshot; what came after it takes its data."""
        self.host.done(self.merging(snapshot_id))

    def merging(self, snapshot_id: SnapshotId) -> Job:
        request = DeleteSnapshot(snapshot_id)
        return self.host.storage.vm_snapshot_delete(self.vm_id, request)

    def merge_all(self) -> None:
        """Delete all snapshots."""
        for each in self.snapshots:
            self.merge(each)

    @property
    def snapshots(self) -> tuple[SnapshotId, ...]:
        found = self.host.storage.vm_show(self.vm_id).vm.snapshots
        return tuple(each.snapshot_id for each in found)

    @property
    def is_being_taken(self) -> bool:
        """Tell whether a snapshot of it was begun, and nobody has ended it yet."""
        found = self.host.storage.vm_show(self.vm_id).vm.snapshots
        return any(each.state is SnapshotState.LOCKED for each in found)

    @property
    def state(self) -> VmState:
        return self.host.storage.vm_show(self.vm_id).run.state

    def is_started(self) -> bool:
        """Start the VM; tell whether it was, as it is not until its pool serves."""
        try:
            job = self.host.storage.vm_start(self.vm_id, StartVm())
        except Error:
            return False
        return self.host.ended(job).state is JobState.DONE

    def delete(self) -> None:
        """Remove the VM with its disk, whatever it does."""
        request = StopVm(manner=StopManner.FORCE)
        self.host.ended(self.host.storage.vm_stop(self.vm_id, request))
        self.host.done(self.host.storage.vm_delete(self.vm_id, DeleteVm()))

    def _is_made(self, request: CreateVm) -> bool:
        """Ask for the VM; its disk may take longer than the agent waits for it."""
        try:
            self.host.storage.vm_create(request)
        except Busy:
            return False
        return True

    @property
    def volumes(self) -> int:
        """Return how many volumes the disk has."""
        return len(self.place.files(self.disk_id))

    @property
    def variables(self) -> Path:
        """Return what the firmware remembers, as root sees it on the server."""
        vms = self.place.folder / self.place.storage_domain_id / "master/vms"
        return vms / self.vm_id / "variables"

    @property
    def memory_id(self) -> DiskId | None:
        """Return the disk that keeps the guest's memory, if there is one."""
        memory = self.host.storage.vm_show(self.vm_id).vm.memory
        return memory.disk_id if memory is not None else None

    @property
    def boots(self) -> list[int]:
        """Return how many stamps the guest found each time that it began."""
        return self._told("H")

    @property
    def acked(self) -> int:
        """Return how many stamps the guest calls written."""
        return max(self._told("A"), default=0)

    def _told(self, letter: str) -> list[int]:
        serial = self.host.storage.vm_serial(self.vm_id)
        return [number for kind, number in writer.told(serial) if kind == letter]

    def check_user(self) -> None:
        """Check that QEMU is nobody who may more than the storage's group."""
        wanted = pwd.getpwnam(_QEMU_USER).pw_uid
        (pid_file,) = Path("/run/libvirt/qemu").glob(f"vm-{self.vm_id[:8]}*.pid")
        status = Path(f"/proc/{pid_file.read_text().strip()}/status").read_text()
        said = {
            name: values.split()
            for name, _, values in (line.partition(":") for line in status.splitlines())
        }
        assert set(said["Uid"]) == {str(wanted)} != {"0"}
        assert str(layout.OWNER_ID) in said["Groups"]
        assert int(said["CapEff"][0], 16) == 0
        print(f"QEMU is user {wanted} ({_QEMU_USER}), groups {said['Groups']}")


@contextlib.contextmanager
def made(
    host: Host, pool_id: PoolId, place: Place, firmware: Firmware = Firmware.BIOS
) -> Iterator[Guest]:
    """Make a VM, and remove it."""
    guest = Guest(host, pool_id, place, firmware=firmware)
    guest.make()
    try:
        yield guest
    finally:
        guest.delete()
