"""Find the VMs and templates that lie on an export storage domain.

Each has a folder in `master/vms` with its OVF document, and its disks in `images`: an
export that is under way has no document yet. Other software wrote there as well, so
nothing is believed. Reads only. Source: docs/formats/storage-domain.md.
"""

from dataclasses import replace

from node.contract.unregistered import Found
from node.errors import Error, Unavailable
from node.model.ids import DiskId, PoolId, StorageDomainId, VmId
from node.model.storage import ActualVolume
from node.model.unregistered import Source
from node.model.vm import TemplateMark
from node.storage.domains import FileKind
from node.storage.domains.access import Access
from node.storage.domains.catalog import DEADLINE_S, Catalog
from node.storage.formats import layout
from node.storage.guard import Guard
from node.storage.ovf import definition, document, reading
from node.storage.ovf.document import DOCUMENT_MAX, DamagedOvf
from node.storage.process.file_operations import FileMissing


class Exported:
    """What lies on one export storage domain of a pool."""

    def __init__(self, access: Access, guard: Guard) -> None:
        self._access = access
        self._files = access.files(guard, deadline_s=DEADLINE_S)

    def vm_ids(self) -> tuple[VmId, ...]:
        """Return whose folders are there, whether or not anything is in them."""
        try:
            entries = self._files.list(str(self._access.layout.vms))
        except Error as error:
            if error.code != FileMissing.code:
                raise
            return ()
        return tuple(
            VmId(each.name)
            for each in entries
            if each.kind is FileKind.FOLDER and layout.is_id(each.name)
        )

    def read(self, vm_id: VmId) -> bytes | None:
        """Return a VM's document; None: there is none."""
        path = self._access.layout.vm(vm_id) / f"{vm_id}.ovf"
        try:
            return self._files.read(str(path), DOCUMENT_MAX)
        except Error as error:
            if error.code != FileMissing.code:
                raise
            return None

    def own_disks(self, vm_id: VmId) -> tuple[str, ...]:
        """Return the disks that a VM's document names, and that of no other VM.

        A document need not be readable for that: an id that stands anywhere in it
        counts.
        """
        own = self.read(vm_id) or b""
        others = [self.read(each) or b"" for each in self.vm_ids() if each != vm_id]
        entries = self._files.list(str(self._access.layout.images))
        names = (layout.read_image_name(each.name) for each in entries)
        ids = (e.image_id for e in names if e and e.kind is layout.FolderKind.IMAGE)
        return tuple(
            each
            for each in sorted(ids)
            if each.encode() in own and not any(each.encode() in e for e in others)
        )

    def find(self, vm_id: VmId, pool_id: PoolId, catalog: Catalog) -> Found | None:
        """Return a VM as it would be in the pool; None: it is not there.

        Raises DamagedOvf; a disk whose image cannot be read is a missing one.
        """
        data = self.read(vm_id)
        if data is None:
            return None
        ovf = reading.read(data)
        if ovf.vm_id != vm_id:
            raise DamagedOvf(f"the document is that of VM {ovf.vm_id}")
        volumes = {
            each.disk_id: self._volumes(each.disk_id, catalog)
            for each in document.active_disks(ovf)
        }
        home = StorageDomainId(self._access.storage_domain_id)
        vm = definition.vm_of(ovf, volumes, pool_id, home)
        mark = TemplateMark() if ovf.is_template else None
        vm = replace(vm, template=mark, snapshots=(), snapshot_id=None)
        missing = definition.missing(ovf, volumes)
        return Found(vm, Source.EXPORT, missing_disks=missing)

    def _volumes(self, disk_id: DiskId, catalog: Catalog) -> tuple[ActualVolume, ...]:
        try:
            return catalog.volumes(self._access, disk_id)
        except Unavailable:
            raise
        except Error:
            return ()
