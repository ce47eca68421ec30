"""Keep templates on the pools of this node, and make whole copies of their disks.

What `node.vm.templates` needs of the storage. Whatever writes is the manager's, and is
done as the job that asks: a definition comes and goes in one step with its disks
(`operations.clone`).
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from node.contract import templates
from node.contract.definitions import Placing
from node.contract.templates import Source, TemplateUnknown
from node.contract.volumes import PoolUnknown
from node.errors import Error
from node.jobs import Progress
from node.model.ids import (
    DiskId,
    JobId,
    NodeId,
    PoolId,
    StorageDomainId,
    TemplateId,
    VmId,
)
from node.model.templates import Template
from node.model.vm import Vm
from node.storage.pools.parts import Part
from node.storage.spm import pool_rules
from node.storage.spm.vm_store import StoredVm, VmNotStored


class PoolTemplates:
    """The templates of this node's pools. Any thread may call."""

    def __init__(self, parts: Callable[[], Iterable[Part]]) -> None:
        """`parts` are always current."""
        self._parts = parts

    def list(self) -> tuple[Template, ...]:
        """Return the templates within reach, by name and version."""
        found = [each for part in self._parts() for each in _templates(part)]
        return tuple(sorted(found, key=lambda each: (each.name, each.version)))

    def of_pool(self, pool_id: PoolId | None) -> tuple[Template, ...]:
        return tuple(_templates(self._of(pool_id)))

    def get(self, template_id: TemplateId) -> Vm:
        """Return a template's definition from the storage; TemplateUnknown."""
        errors: list[Error] = []
        for part in self._parts():
            try:
                stored = part.vms.read(VmId(template_id))
            except VmNotStored:
                continue
            except Error as error:
                errors.append(error)
                continue
            if stored.vm.template is not None:
                return _named(part, _homed(stored))
        if errors:
            raise errors[0]
        raise TemplateUnknown(
            f"template {template_id[:80]!a} is on no active storage domain",
            template_id=ascii(template_id[:80]),
        )

    def find(self, vm_id: VmId, pool_id: PoolId | None) -> Vm | None:
        """Return what lies under an id in a pool, of a VM or of a template."""
        stored = self._of(pool_id).vms.find(vm_id)
        return None if stored is None else _homed(stored)

    def homed(self, vm: Vm) -> Vm:
        """Return a new definition with its home: as its first disk, or the master."""
        part = self._of(vm.spec.pool_id)
        named = (disk.storage_domain_id for disk in vm.spec.disks)
        master = StorageDomainId(part.pool.map.master_id)
        home = next((each for each in named if each is not None), master)
        pool_rules.entry(part.pool.map, home)
        return replace(vm, home=home)

    def make(
        self,
        vm: Vm,
        sources: Mapping[DiskId, Source],
        progress: Progress,
        check_idle: Callable[[], None],
        data_node_id: NodeId | None = None,
    ) -> None:
        """Copy disks and define what they are for, all or nothing. Idempotent.

        `data_node_id` copies; None: who has least to do.

        Raises DefinitionChanged, NoSpace, NotSpm, and as the operations.
        """
        assert vm.home is not None, "what lies on a pool has a home"
        part = self._of(vm.spec.pool_id)
        placing = Placing(vm.spec.vm_id, vm.home, 0, vm)
        part.disks.make_whole(placing, sources, progress, check_idle, data_node_id)
        part.on_change()

    def change(self, vm: Vm, based_on: int) -> None:
        """Write another generation of a template's definition; VmMoved."""
        assert vm.home is not None, "what lies on a pool has a home"
        part = self._of(vm.spec.pool_id)
        part.vms.write(vm, vm.home, based_on)
        part.on_change()

    def delete(self, vm: Vm, progress: Progress) -> None:
        """Delete a template that nothing needs, with its disks. Idempotent.

        TemplateUsed, VmFileDamaged and the like: who needs it must be known.
        """
        assert vm.home is not None, "what lies on a pool has a home"
        part = self._of(vm.spec.pool_id)
        placing = Placing(vm.spec.vm_id, vm.home, vm.generation)
        disk_ids = [disk.disk_id for disk in vm.spec.disks]
        check = functools.partial(_check_unused, part, vm)
        part.disks.end_whole(placing, disk_ids, progress, check)
        part.on_change()

    def check_unused(self, vm: Vm) -> None:
        """Refuse at once what `delete` would refuse, as far as it is known."""
        part = self._of(vm.spec.pool_id)
        users = {}
        for storage_domain_id in pool_rules.active_data(part.pool.map):
            sight = part.catalog.sight(storage_domain_id)
            if sight is None:
                continue
            for disk in vm.spec.disks:
                for user in sight.users(disk.disk_id):
                    users[user] = sight.images[user].name
        _check_unused(part, vm, users)

    def go_on(self, pool_id: PoolId | None, progress: Progress) -> None:
        """End what a job was at when the agent stopped."""
        self._of(pool_id).disks.go_on(progress)

    def is_left(self, pool_id: PoolId | None, job_id: JobId) -> bool:
        """Tell whether a job that failed may still be finished: see `leftovers`."""
        return self._of(pool_id).disks.is_left(job_id)

    def _of(self, pool_id: PoolId | None) -> Part:
        for part in self._parts():
            if part.pool.pool_id == pool_id:
                return part
        raise PoolUnknown(f"this node is not in pool {pool_id}", pool_id=pool_id)


def _templates(part: Part) -> Iterable[Template]:
    stored = (_homed(each) for each in part.vms.list().vms)
    for vm in templates.named(stored):
        if vm.template is not None:
            yield templates.of(vm)


def _named(part: Part, vm: Vm) -> Vm:
    """Return a template with the name of its base, if that can be read."""
    if vm.template is None or vm.template.base_id is None:
        return vm
    with contextlib.suppress(Error):
        base = part.vms.read(VmId(vm.template.base_id)).vm
        _, vm = templates.named((base, vm))
    return vm


def _homed(stored: StoredVm) -> Vm:
    return replace(stored.vm, home=StorageDomainId(stored.home))


def _check_unused(part: Part, vm: Vm, disks: Mapping[str, str]) -> None:
    stored = part.vms.list()
    templates.check_unused(vm, (each.vm for each in stored.vms), disks)
    for problem in stored.problems:
        raise problem.error
