"""A node whose pool has an export storage domain, and what oVirt left on such a one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from node import jobs
from node.clock import SystemClock
from node.model.exports import ExportVm
from node.model.ids import DiskId, JobId, StorageDomainId
from node.model.job import Job
from node.model.storage import Connection, DomainClass, DomainState, DomainType
from node.model.storage_requests import (
    ActOnStorageDomain,
    AttachStorageDomain,
    CreateStorageDomain,
)
from node.storage.formats.volume_meta import Format
from node.storage.pools.newcomers import PoolNewcomers
from node.vm.importing import Importer
from node.vm.registering import Registrar
from tests.contract.disks import qemu_io
from tests.contract.vm_agent import DATA, ROOT
from tests.contract.vm_scene import Scene
from tests.unit.node.storage.pools.nodes import Node
from tests.unit.node.vm.examples import HOST, VM_ID

EXPORT = StorageDomainId("e0e0e0e0-0000-4000-8000-000000000001")


class Exports(Scene):
    """A node whose pool has an export storage domain."""

    def begin(self, node: Node) -> Mapping[str, jobs.Handler]:
        handlers = super().begin(node)
        exports = node.storage.exports()
        self.newcomers = PoolNewcomers(node.storage.roster, node.guard, SystemClock())
        kept = node.storage.templates()
        self.exporter = self.vms.exporter(exports, node.volumes, kept, node.store)
        self.templates = self.vms.templates(kept, node.volumes, node.store)
        importer = Importer(exports, node.volumes, self.vms.editor, self.templates)
        host = replace(HOST, node_id=node.node_id)
        self.registrar = Registrar(
            *(self.vms.editor, self.newcomers, importer, node.jobs, lambda: host)
        )
        return {
            **handlers,
            **self.exporter.job_handlers(),
            **self.registrar.job_handlers(),
        }

    def add_domain(self) -> None:
        storage = self.node.storage
        self.root.parent.mkdir()
        way = Connection(DomainType.LOCALFS, str(self.root.parent))
        asked = CreateStorageDomain(EXPORT, "export", way, DomainClass.EXPORT)
        self.done(storage.storage_domain_create(asked))
        attach = AttachStorageDomain(self.pool.pool_id)
        self.done(storage.storage_domain_attach(EXPORT, attach))
        self.done(storage.storage_domain_activate(EXPORT, ActOnStorageDomain()))
        self.node.wait_state(EXPORT, DomainState.ACTIVE)

    @property
    def root(self) -> Path:
        return self.folder / "export" / EXPORT

    @property
    def described(self) -> Path:
        return self.document(VM_ID)

    def document(self, vm_id: str) -> Path:
        return self.root / "master" / "vms" / vm_id / f"{vm_id}.ovf"

    def lay_document(self, vm_id: str, text: str) -> None:
        """Put a document there, as another software does."""
        path = self.document(vm_id)
        path.parent.mkdir()
        path.write_text(text)

    def lay_volume(self, disk_id: str, volume_id: str, meta: str) -> Path:
        """Make the folder of an image, and the metadata of a volume there."""
        path = self.root / "images" / disk_id / volume_id
        path.parent.mkdir(exist_ok=True)
        path.with_name(f"{volume_id}.meta").write_text(meta)
        return path

    def export(self, number: int = 0, *, is_replacing: bool = False) -> Job:
        job_id = JobId(f"30b00000-0000-4000-8000-{number:012}")
        request = ExportVm(EXPORT, job_id, is_replacing=is_replacing)
        return self.exporter.export(VM_ID, request)

    def image(self, disk_id: DiskId) -> Path:
        (meta,) = (self.root / "images" / disk_id).glob("*.meta")
        return meta.with_suffix("")

    def is_whole(self) -> bool:
        """Tell whether all is there as it should be; else nothing must be."""
        left = [each.name for each in (self.root / "images").iterdir()]
        if not self.described.exists():
            assert left == []
            assert list((self.root / "master" / "vms").iterdir()) == []
            return False
        assert sorted(left) == [ROOT, DATA]
        for disk_id in (ROOT, DATA):
            qemu_io(self.image(disk_id), Format.COW, "read -P 1 64k 64k")
        return True
