"""Import what was exported: copies of its disks, and a definition that names them.

What `node.vm.registering` does with what lies on an export storage domain. What lies
there is left as it is. Run again, it goes on from what is on the storage.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from node.contract import templates
from node.contract.exports import Exports
from node.contract.unregistered import Found
from node.contract.volumes import Volumes
from node.errors import Conflict, Invalid
from node.jobs import Progress
from node.model.ids import PoolId, StorageDomainId
from node.model.unregistered import RegisterVm, Source
from node.model.vm import Disk, Vm
from node.vm import domxml


class BadImportTarget(Invalid):
    """What was exported needs a place for its disks; all else is where it stays."""

    code = "bad_import_target"
    remedy = "Name a data storage domain of the pool for what was exported, else none."


class VmIsHere(Conflict):
    """A VM or template of that id is here, or was deleted here."""

    code = "vm_is_here"
    remedy = "Import it with another id."


class Editor(Protocol):
    """Who knows the VMs of the pools; `node.vm.pool_editing` does."""

    def check_new(self, vm: Vm) -> None: ...

    def knows(self, vm: Vm) -> bool: ...


class Maker(Protocol):
    """Who makes VMs with copies as their disks; `node.vm.templates` does."""

    def make(self, vm: Vm, copy: Callable[[Vm], None], progress: Progress) -> None: ...


class Importer:
    """The import of VMs and templates. Any thread may call."""

    def __init__(
        self, exports: Exports, volumes: Volumes, editor: Editor, maker: Maker
    ) -> None:
        self._exports = exports
        self._volumes = volumes
        self._editor = editor
        self._maker = maker

    def check(self, vm: Vm, request: RegisterVm) -> None:
        """Refuse at once what cannot be imported.

        BadImportTarget, VmIsHere, DiskLiesHere, StorageDomainInactive, NameTaken,
        MacTaken, NotSpm.
        """
        if self._editor.knows(vm):
            raise VmIsHere(f"VM {vm.spec.vm_id} is here, or was", vm_id=vm.spec.vm_id)
        self._check(placed(vm, request))

    def run(
        self, origin: StorageDomainId, vm: Vm, request: RegisterVm, progress: Progress
    ) -> None:
        """Make what is asked for; NoSpace, and as `check`. Idempotent."""
        new = placed(vm, request)
        lying = (disk.disk_id for disk in vm.spec.disks)
        made = (disk.disk_id for disk in new.spec.disks)
        sources = dict(zip(made, lying, strict=True))

        def copy(vm: Vm) -> None:
            self._check(vm)
            self._exports.bring(vm, origin, sources, progress)

        self._maker.make(new, copy, progress)

    def go_on(self, pool_id: PoolId, progress: Progress) -> None:
        """End what a job was at when the agent stopped."""
        self._volumes.wait_for_pool(pool_id, progress.pause)
        self._exports.go_on(pool_id, progress)

    def _check(self, vm: Vm) -> None:
        self._editor.check_new(vm)
        self._exports.check_import(vm)


def check_target(found: Found, request: RegisterVm) -> None:
    """Refuse a target that is missing, or means nothing; BadImportTarget. Pure."""
    is_export = found.source is Source.EXPORT
    if is_export is (request.to_storage_domain_id is None):
        what = "needs a place" if is_export else "stays where it lies"
        raise BadImportTarget(f"VM {found.vm.spec.name} {what}")


def placed(vm: Vm, request: RegisterVm) -> Vm:
    """Return a definition whose disks are copies; with another id, they have others."""
    assert request.to_storage_domain_id is not None, "it was checked"
    spec = vm.spec
    is_clone = request.as_vm_id is not None

    def turn(disk: Disk) -> Disk:
        copy_id = templates.copy_id(spec.vm_id, disk.disk_id)
        return replace(
            disk,
            disk_id=copy_id if is_clone else disk.disk_id,
            storage_domain_id=request.to_storage_domain_id,
            volume_id=None,
            disk_format=None,
            is_shared=False,
        )

    spec = replace(spec, disks=tuple(map(turn, spec.disks)))
    addresses = () if vm.template is not None else domxml.assign_addresses(spec)
    return replace(
        vm, spec=spec, addresses=addresses, home=request.to_storage_domain_id
    )
