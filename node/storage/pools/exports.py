"""Export VMs of this node's pools to export storage domains, and import such.

What `node.vm.exporting` and `importing` need of the storage; the manager does it.
oVirt finds there what it would have written itself: the description in `master/vms`,
the disks in `images`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from node.clock import Clock, parse_rfc3339
from node.contract.definitions import Placing
from node.contract.exports import NotAnExport, NotExported, VmExported
from node.contract.volumes import PoolUnknown
from node.jobs import Progress
from node.model.ids import DiskId, PoolId, StorageDomainId, VmId, VolumeId
from node.model.storage import ActualVolume, VolumeKind
from node.model.vm import Vm
from node.storage.disks import export_tasks, import_tasks
from node.storage.disks.export_tasks import Exporting, Removing, Source
from node.storage.disks.import_tasks import Brought, Importing
from node.storage.disks.tasks import Eyes
from node.storage.disks.verbs import first_volume
from node.storage.disks.work import StorageDomainInactive
from node.storage.guard import Guard
from node.storage.operations.copy import CopyOf
from node.storage.operations.facts import VolumeMissing
from node.storage.operations.plan import Plan
from node.storage.ovf import definition, description, writing, xml
from node.storage.ovf.description import DiskLabel
from node.storage.pools.exported import Exported
from node.storage.pools.parts import Part
from node.storage.spm import pool_rules


class PoolExports:
    """The export storage domains of this node's pools. Any thread may call."""

    def __init__(
        self, parts: Callable[[], Iterable[Part]], guard: Guard, clock: Clock
    ) -> None:
        """`parts` are always current."""
        self._parts = parts
        self._guard = guard
        self._clock = clock

    def check(
        self, vm: Vm, target: StorageDomainId, *, is_replacing: bool = False
    ) -> None:
        """Refuse what cannot be exported there; NotAnExport, VmExported, NotSpm."""
        part = self._of(vm.spec.pool_id)
        part.pool.spm.term()
        if target not in pool_rules.active_exports(part.pool.map):
            raise NotAnExport(
                f"storage domain {target} is no active export domain of the pool",
                storage_domain_id=target,
            )
        if not is_replacing and self._read(part, vm, target) is not None:
            raise VmExported(
                f"VM {vm.spec.name} lies on storage domain {target} already",
                vm_id=vm.spec.vm_id,
                storage_domain_id=target,
            )

    def is_done(self, vm: Vm, target: StorageDomainId, at: str) -> bool:
        """Tell whether the export that began at a moment is there."""
        data = self._read(self._of(vm.spec.pool_id), vm, target)
        return data is not None and xml.ovirt_date(at).encode() in data

    def make_way(self, vm: Vm, target: StorageDomainId, progress: Progress) -> None:
        """Remove what was exported before; not if the VM cannot be exported then.

        Raises DiskLocked, NoSpace, NotSpm, DiskExported, and as the operations.
        """
        part, vm_id = self._of(vm.spec.pool_id), vm.spec.vm_id
        there = Exported(part.pool.access(target), self._guard)
        if vm_id not in there.vm_ids():
            return
        new = Exporting(vm_id, target, export_tasks.sources(vm), created_at_s=0)
        task = Removing(vm_id, target, there.own_disks(vm_id))

        def make(eyes: Eyes) -> Plan:
            return export_tasks.way(new, task, eyes)

        part.disks.carry_out(task, make, progress, _nobody_runs)

    def write(
        self,
        vm: Vm,
        target: StorageDomainId,
        at: str,
        progress: Progress,
        check_idle: Callable[[], None],
    ) -> None:
        """Copy the disks of a VM that is held, and describe it: all, or nothing.

        A template needs no holding: it never changes. Raises DiskLocked, NoSpace,
        NotSpm, DiskExported, and as the operations.
        """
        part = self._of(vm.spec.pool_id)
        sources = export_tasks.sources(vm)
        began_s = int(parse_rfc3339(at).timestamp())
        is_template = vm.template is not None
        task = Exporting(vm.spec.vm_id, target, sources, began_s, is_template)
        volumes = {e.disk_id: (_copied(part, e, target),) for e in sources}
        text = writing.write(definition.document_of(_alone(vm, volumes), volumes), at)

        def make(eyes: Eyes) -> Plan:
            return export_tasks.plan(task, text.decode(), eyes)

        part.disks.carry_out(task, make, progress, check_idle)

    def check_removal(self, vm_id: VmId, origin: StorageDomainId) -> PoolId:
        """Return the pool of an export domain with that VM; NotExported, NotAnExport.

        NotSpm.
        """
        part = self._with(origin)
        part.pool.spm.term()
        if not self.lies(vm_id, origin):
            raise NotExported(
                f"no VM {vm_id} lies on storage domain {origin}",
                vm_id=vm_id,
                storage_domain_id=origin,
            )
        return PoolId(part.pool.pool_id)

    def lies(self, vm_id: VmId, origin: StorageDomainId) -> bool:
        access = self._with(origin).pool.access(origin)
        return vm_id in Exported(access, self._guard).vm_ids()

    def remove(self, vm_id: VmId, origin: StorageDomainId, progress: Progress) -> None:
        """Remove a VM that was exported, with its disks: all, or nothing.

        Disks that other documents there name as well stay. Raises DiskLocked, NotSpm,
        and as the operations.
        """
        part = self._with(origin)
        there = Exported(part.pool.access(origin), self._guard)
        task = Removing(vm_id, origin, there.own_disks(vm_id))

        def make(eyes: Eyes) -> Plan:
            return export_tasks.removal(task, eyes)

        part.disks.carry_out(task, make, progress, _nobody_runs)
        part.on_change()

    def check_import(self, vm: Vm) -> None:
        """Refuse at once what `bring` would; StorageDomainInactive, DiskLiesHere."""
        part = self._of(vm.spec.pool_id)
        part.pool.spm.term()
        for disk in vm.spec.disks:
            places = (e.storage_domain_id for e in part.catalog.find(disk.disk_id))
            import_tasks.check_away(disk.disk_id, tuple(places))
        if vm.home not in pool_rules.active_data(part.pool.map):
            raise StorageDomainInactive(
                f"storage domain {vm.home} is no active data storage domain",
                storage_domain_id=vm.home,
            )

    def bring(
        self,
        vm: Vm,
        origin: StorageDomainId,
        sources: Mapping[DiskId, DiskId],
        progress: Progress,
    ) -> None:
        """Copy exported disks, and define what they are for: all, or nothing.

        Raises DiskLocked, NoSpace, NotSpm, DiskLiesHere, and as the operations.
        """
        assert vm.home is not None, "what lies on a pool has a home"
        part, at_s = self._of(vm.spec.pool_id), int(self._clock.now().timestamp())
        is_template = vm.template is not None
        disks = tuple(
            Brought(
                sources[disk.disk_id],
                vm.home,
                CopyOf(
                    disk.disk_id,
                    first_volume(disk.disk_id),
                    at_s,
                    description=description.write_disk(DiskLabel(disk.name)),
                    is_template=is_template,
                ),
                _allocated(part, sources[disk.disk_id], origin),
            )
            for disk in vm.spec.disks
        )
        task = Importing(Placing(vm.spec.vm_id, vm.home, 0, vm), origin, disks)

        def make(eyes: Eyes) -> Plan:
            return import_tasks.plan(task, eyes)

        part.disks.carry_out(task, make, progress, _nobody_runs)
        part.on_change()

    def go_on(self, pool_id: PoolId | None, progress: Progress) -> None:
        """End what a job was at when the agent stopped."""
        self._of(pool_id).disks.go_on(progress)

    def _read(self, part: Part, vm: Vm, target: StorageDomainId) -> bytes | None:
        """Return a VM's description there; None: there is none."""
        return Exported(part.pool.access(target), self._guard).read(vm.spec.vm_id)

    def _with(self, storage_domain_id: StorageDomainId) -> Part:
        """Return the pool whose export domain that is; NotAnExport."""
        for part in self._parts():
            if storage_domain_id in pool_rules.active_exports(part.pool.map):
                return part
        raise NotAnExport(
            f"storage domain {storage_domain_id} is no active export domain of a pool",
            storage_domain_id=storage_domain_id,
        )

    def _of(self, pool_id: PoolId | None) -> Part:
        for part in self._parts():
            if part.pool.pool_id == pool_id:
                return part
        raise PoolUnknown(f"this node is not in pool {pool_id}", pool_id=pool_id)


def _nobody_runs() -> None:
    """Nobody runs a VM that is not there yet."""


def _allocated(part: Part, disk_id: DiskId, origin: StorageDomainId) -> int:
    volumes = part.catalog.volumes(part.pool.access(origin), disk_id)
    return sum(each.allocated_bytes for each in volumes)


def _copied(part: Part, source: Source, target: StorageDomainId) -> ActualVolume:
    """Return the only volume of a copy: what the VM writes to, without all beneath."""
    access = part.pool.access(source.storage_domain_id)
    chain = part.catalog.volumes(access, source.disk_id)
    parents = {each.parent_id for each in chain}
    for each in chain:
        is_leaf = each.volume_id not in parents
        if each.volume_id == source.volume_id or (not source.volume_id and is_leaf):
            return replace(
                each,
                storage_domain_id=target,
                kind=VolumeKind.LEAF,
                parent_id=None,
                allocated_bytes=sum(volume.allocated_bytes for volume in chain),
            )
    raise VolumeMissing(f"disk {source.disk_id} has no volume {source.volume_id}")


def _alone(vm: Vm, volumes: definition.Volumes) -> Vm:
    """Return a VM as it is exported: as it is now, with the disks that go along."""
    disks = tuple(
        replace(
            disk,
            storage_domain_id=volumes[disk.disk_id][0].storage_domain_id,
            volume_id=VolumeId(volumes[disk.disk_id][0].volume_id),
            from_disk_id=None,
        )
        for disk in vm.spec.disks
        if disk.disk_id in volumes
    )
    spec = replace(vm.spec, disks=disks, template_id=None)
    return replace(vm, spec=spec, snapshots=(), snapshot_id=None, memory=None)
