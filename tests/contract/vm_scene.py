"""A node with its local pool, and a VM of two disks that hold patterns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from node.contract.snapshots import Leaf
from node.model.ids import DiskId, SnapshotId, StorageDomainId
from node.model.requests import CreateVm, StartVm
from node.model.storage import PoolDocument
from node.model.storage_requests import (
    ActOnSnapshot,
    CreateSnapshot,
    DeleteSnapshot,
    PreviewSnapshot,
)
from node.model.vm import Disk
from node.storage.formats.volume_meta import Format
from node.units import MiB
from node.vm import live_disks
from tests.contract.disks import qemu_io
from tests.contract.vm_agent import DATA, ROOT, VmAgent
from tests.unit.node.storage.pools.nodes import Nodes, wait_until
from tests.unit.node.vm.examples import SPEC, VM_ID

_any: Any = ""


class Scene(VmAgent):
    """A node with a VM of two disks; `restart` starts its agent again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.nodes = Nodes(folder, prepare=self.begin, user_elsewhere=self._user_of)
        self.node = self.nodes.start(has_local=True)
        wait_until(lambda: self.pool.mark is not None)
        pool = self.pool
        where = StorageDomainId(str(pool.master))
        made = tuple(
            Disk(each, "d", 4 * MiB, storage_domain_id=where) for each in (ROOT, DATA)
        )
        self.vms.create(
            CreateVm(replace(SPEC, disks=made, pool_id=pool.pool_id, nics=()))
        )

    @property
    def pool(self) -> PoolDocument:
        return self.node.storage.pool_list().pools[0]

    def _user_of(self, _disk_id: str) -> str | None:
        """Return the VM that runs with a disk; all disks here are its."""
        return VM_ID if self.hypervisor.domains() else None

    def close(self) -> None:
        self.vms.close()
        self.nodes.close()

    def start(self) -> None:
        self.done(self.vms.start(VM_ID, StartVm()))

    def take(self, snapshot_id: SnapshotId) -> None:
        self.done(self.snapshots.create(VM_ID, CreateSnapshot(snapshot_id, "now")))

    def preview(self, snapshot_id: SnapshotId) -> None:
        self.done(self.snapshots.preview(VM_ID, PreviewSnapshot(snapshot_id)))

    def commit(self) -> None:
        self.done(self.snapshots.commit(VM_ID, ActOnSnapshot()))

    def undo(self) -> None:
        self.done(self.snapshots.undo(VM_ID, ActOnSnapshot()))

    def delete(self, snapshot_id: SnapshotId) -> None:
        self.done(self.snapshots.delete(VM_ID, DeleteSnapshot(snapshot_id)))

    def leaf(self, disk_id: DiskId) -> Path:
        """Return what a guest would write to."""
        disk = next(e for e in self.vm.spec.disks if e.disk_id == disk_id)
        return Path(self.node.storage.volumes().open(disk).layers[0].path)

    def write(self, pattern: int) -> None:
        for disk_id in (ROOT, DATA):
            command = f"write -P {pattern} {pattern * 64}k 64k"
            qemu_io(self.leaf(disk_id), Format.COW, command)

    def has(self, *patterns: int) -> None:
        """Check which patterns the disks hold, of 1 to 5."""
        for disk_id in (ROOT, DATA):
            for each in range(1, 6):
                value = each if each in patterns else 0
                command = f"read -P {value} {each * 64}k 64k"
                qemu_io(self.leaf(disk_id), Format.COW, command)

    def check(self, count: int) -> None:
        """Check that nothing is wrong, and that each disk has so many volumes."""
        assert self.node.storage.storage_domain_check(self.home).problems == ()
        for disk_id in (ROOT, DATA):
            names = [e.name for e in self.leaf(disk_id).parent.iterdir()]
            volumes = [each for each in names if "." not in each]
            assert len(volumes) == count, names

    @property
    def home(self) -> StorageDomainId:
        home = self.vm.home
        assert home is not None
        return home

    def tops(self) -> list[str]:
        """Return what the running guest writes to."""
        leaves = tuple(Leaf(e, _any, _any) for e in (ROOT, DATA))
        live = live_disks.of(self.hypervisor)
        return list(live.tops(VM_ID, leaves).values())
