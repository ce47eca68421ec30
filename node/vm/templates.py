"""Make templates of VMs, and VMs that are full copies of templates.

A verb checks and makes a job, which can be run again after the agent was killed: the
definition on the storage tells whether all has happened (`node.contract.templates`). A
VM of which a template is made is down, and nobody starts it meanwhile: its lease is
held here. What is made of one of its snapshots leaves the VM alone.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from node import jobs, wire
from node.clock import Clock, rfc3339
from node.contract import snapshots, templates
from node.contract.templates import Source, TemplateUnknown
from node.contract.volumes import Volumes
from node.errors import Conflict, Error
from node.jobs import Jobs, Progress
from node.model.feed import Kind
from node.model.host import NodeFacts
from node.model.ids import DiskId, JobId, NodeId, PoolId, TemplateId, VmId
from node.model.job import Job
from node.model.templates import (
    ChangeTemplate,
    CloneVm,
    CreateTemplate,
    DeleteTemplate,
    SnapshotCopied,
    Template,
    TemplateList,
)
from node.model.vm import Vm, VmEntry, VmRun, VmSpec, VmState
from node.store import Store
from node.vm import definition, domxml, snapshot_checks, states
from node.vm.register import VmRegister

log = logging.getLogger(__name__)


class VmNotDown(Conflict):
    """The VM runs, and would go on changing what is copied."""

    code = "template_vm_runs"
    remedy = "Stop the VM, or name one of its snapshots."


class Changes(Protocol):
    """What VMs' leases need meanwhile; `node.storage.pools.volumes` does it."""

    def check_manager(self, vm: Vm) -> None: ...

    def check_data_node(
        self, pool_id: PoolId | None, data_node_id: NodeId | None
    ) -> None: ...

    def holding(self, vm: Vm) -> AbstractContextManager[int | None]: ...

    def make_lease(self, vm: Vm) -> None: ...

    def remove_lease(self, vm: Vm) -> None: ...


class Keeper(Protocol):
    """Who keeps templates; `node.storage.pools.templates` does."""

    def list(self) -> tuple[Template, ...]: ...

    def of_pool(self, pool_id: PoolId | None) -> tuple[Template, ...]: ...

    def get(self, template_id: TemplateId) -> Vm: ...

    def find(self, vm_id: VmId, pool_id: PoolId | None) -> Vm | None: ...

    def homed(self, vm: Vm) -> Vm: ...

    def make(
        self,
        vm: Vm,
        sources: Mapping[DiskId, Source],
        progress: Progress,
        check_idle: Callable[[], None],
        data_node_id: NodeId | None,
    ) -> None: ...

    def change(self, vm: Vm, based_on: int) -> None: ...

    def delete(self, vm: Vm, progress: Progress) -> None: ...

    def check_unused(self, vm: Vm) -> None: ...

    def go_on(self, pool_id: PoolId | None, progress: Progress) -> None: ...

    def is_left(self, pool_id: PoolId | None, job_id: JobId) -> bool: ...


class Lookout(Protocol):
    """Who looks at VMs and knows them; `node.vm.lifecycle` does."""

    def look_first(self, vm_id: VmId, progress: Progress) -> VmEntry: ...

    def check_generation(self, vm_id: VmId, generation: int | None) -> None: ...

    def find_made(self, spec: VmSpec) -> VmEntry | None: ...


class Templates:
    """The templates of this node's pools. Any thread may call."""

    def __init__(
        self,
        keeper: Keeper,
        register: VmRegister,
        lookout: Lookout,
        volumes: Volumes,
        changes: Changes,
        store: Store,
        job_queue: Jobs,
        clock: Clock,
        host: Callable[[], NodeFacts],
    ) -> None:
        self._keeper = keeper
        self._register = register
        self._lookout = lookout
        self._volumes = volumes
        self._changes = changes
        self._store = store
        self._jobs = job_queue
        self._clock = clock
        self._host = host
        self._works: Mapping[str, Callable[[wire.Json, Progress], None]] = {
            "template_create": self._create,
            "template_delete": self._delete,
            "vm_clone": self._clone,
        }

    # verbs

    def list(self) -> TemplateList:
        return TemplateList(self._keeper.list())

    def show(self, template_id: TemplateId) -> Template:
        return templates.of(self._keeper.get(template_id))

    def create(self, request: CreateTemplate) -> Job:
        """Make a template; one that is there already is left as it is."""
        entry = self._register.get(request.vm_id)
        vm = entry.vm
        self._changes.check_manager(vm)
        templates.check_id(request.template_id)
        definition.check_name(request.name or vm.spec.name)
        definition.check_description(request.description)
        self._changes.check_data_node(vm.spec.pool_id, request.data_node_id)
        if self._made(request, vm) is None:
            self._lookout.check_generation(request.vm_id, request.generation)
            source = self._source(request, vm)
            if request.snapshot_id is None:
                check_down(entry)
            self._keeper.homed(self._define(request, source))
        asked = {
            "request": wire.to_json(request),
            "pool_id": vm.spec.pool_id,
            "created_at": rfc3339(self._clock.now()),
        }
        return self._submit("template_create", request.template_id, request, asked)

    def change(self, template_id: TemplateId, request: ChangeTemplate) -> Template:
        """Change what VMs of a template start with; all versions have one name."""
        vm = self._keeper.get(template_id)
        self._changes.check_manager(vm)
        known = self._keeper.of_pool(vm.spec.pool_id)
        after = templates.changed(vm, request, known)
        definition.check_name(after.spec.name)
        definition.check_description(after.spec.description)
        definition.check_memory(after.spec, self._host())
        if after is not vm:
            self._keeper.change(after, vm.generation)
        return templates.of(after)

    def delete(self, template_id: TemplateId, request: DeleteTemplate) -> Job:
        """Delete a template that nothing needs, with its disks; TemplateUsed."""
        pool_id: PoolId | None = None
        try:
            vm = self._keeper.get(template_id)
        except TemplateUnknown:
            if request.job_id is None:
                raise
        else:
            self._changes.check_manager(vm)
            self._keeper.check_unused(vm)
            pool_id = vm.spec.pool_id
        asked = {"template_id": template_id, "pool_id": pool_id}
        return self._submit("template_delete", template_id, request, asked)

    def clone(self, request: CloneVm) -> Job:
        """Make a VM whose disks are full copies; the same again is the same VM.

        Raises BadVm, NameTaken, MacTaken, VmDiffers, TemplateUnknown, NotOfTemplate,
        and of a snapshot what `_sources` does.
        """
        spec, copied = request.spec, request.snapshot
        if self._lookout.find_made(spec) is None:
            self._sources(self._new(spec, copied), copied)
        self._changes.check_data_node(spec.pool_id, request.data_node_id)
        asked = {
            "data_node_id": request.data_node_id,
            "spec": wire.to_json(spec),
            "snapshot": wire.to_json(copied),
            "pool_id": spec.pool_id,
            "created_at": rfc3339(self._clock.now()),
        }
        return self._submit("vm_clone", spec.vm_id, request, asked)

    def job_handlers(self) -> Mapping[str, jobs.Handler]:
        """Return what runs an unfinished job of ours again, by verb."""
        return dict.fromkeys(self._works, self._again)

    # jobs

    def _create(self, asked: wire.Json, progress: Progress) -> None:
        request = wire.from_json(CreateTemplate, asked["request"], strict=False)
        vm = self._volumes.find(request.vm_id)
        pool_id = PoolId(asked["pool_id"])
        known = self._keeper.find(VmId(request.template_id), pool_id)
        if known is not None and templates.is_same(request, known):
            return
        if vm is None:
            raise snapshots.DefinitionChanged(f"VM {request.vm_id} was deleted")
        source = self._source(request, vm)
        made = self._keeper.homed(self._define(request, source, asked["created_at"]))
        states_of = _states(request, vm)
        sources = {
            templates.copy_id(request.template_id, disk.disk_id): Source(
                disk.disk_id, states_of.get(disk.disk_id)
            )
            for disk in templates.copied(source)
        }

        def check_idle() -> None:
            if request.snapshot_id is None:
                check_down(self._register.get(request.vm_id))

        with contextlib.ExitStack() as stack:
            if request.snapshot_id is None:
                check_down(self._lookout.look_first(request.vm_id, progress))
                stack.enter_context(self._changes.holding(vm))
            to = request.data_node_id
            self._keeper.make(made, sources, progress, check_idle, to)
        self._tell("template_created", progress, name=made.spec.name)

    def _delete(self, asked: wire.Json, progress: Progress) -> None:
        try:
            vm = self._keeper.get(TemplateId(asked["template_id"]))
        except TemplateUnknown:
            return
        self._keeper.delete(vm, progress)
        self._tell("template_deleted", progress, name=vm.spec.name)

    def _clone(self, asked: wire.Json, progress: Progress) -> None:
        spec = wire.from_json(VmSpec, asked["spec"], strict=False)
        copied = _copied(asked)
        vm = self._keeper.find(spec.vm_id, spec.pool_id)
        vm = vm or replace(self._new(spec, copied), created_at=asked["created_at"])

        def copy(vm: Vm) -> None:
            sources, to = self._sources(vm, copied), asked.get("data_node_id")
            self._keeper.make(vm, sources, progress, _nobody_runs, to)

        self.make(vm, copy, progress)

    def make(self, vm: Vm, copy: Callable[[Vm], None], progress: Progress) -> None:
        """Make a VM, or a template: `copy` defines it, with its disks. Idempotent."""
        spec = vm.spec
        known = self._keeper.find(spec.vm_id, spec.pool_id)
        if vm.template is not None:
            if known is None:
                copy(vm)
            self._tell("template_created", progress, name=spec.name)
            return
        vm = known or vm
        # First: a VM without its lease could not start, were this to stop here.
        self._changes.make_lease(vm)
        if known is None:
            try:
                copy(vm)
            except jobs.AgentStopping:
                raise
            except Error:
                self._take_lease_back(vm, progress.job.job_id)
                raise
        if self._register.find(spec.vm_id) is None:
            node_id, now = self._host().node_id, rfc3339(self._clock.now())
            run = VmRun(spec.vm_id, node_id, VmState.DOWN, now)
            self._register.add(VmEntry(vm, run), progress.job.correlation_id)

    # how

    def _made(self, request: CreateTemplate, vm: Vm) -> Vm | None:
        """Return the template that is there already; TemplateDiffers."""
        known = self._keeper.find(VmId(request.template_id), vm.spec.pool_id)
        if known is not None and not templates.is_same(request, known):
            raise templates.TemplateDiffers(
                f"{known.spec.name} has that id and is something else",
                template_id=request.template_id,
            )
        return known

    def _source(self, request: CreateTemplate, vm: Vm) -> Vm:
        """Return the VM as it is copied: now, or at a snapshot.

        Raises InPreview, SnapshotUnknown, SnapshotBroken, SnapshotLocked.
        """
        snapshots.check_settled(vm)
        if request.snapshot_id is None:
            return vm
        snapshot = snapshots.get(vm, request.snapshot_id)
        snapshot_checks.check_whole(snapshot)
        kept = {each.disk_id for each in snapshot.disks}
        spec = snapshot.spec or vm.spec
        disks = tuple(disk for disk in spec.disks if disk.disk_id in kept)
        return replace(vm, spec=replace(spec, disks=disks))

    def _define(
        self, request: CreateTemplate, vm: Vm, created_at: str | None = None
    ) -> Vm:
        known = self._keeper.of_pool(vm.spec.pool_id)
        at = created_at or rfc3339(self._clock.now())
        return templates.define(request, vm, known, at)

    def _sources(
        self, vm: Vm, copied: SnapshotCopied | None
    ) -> Mapping[DiskId, Source]:
        """Return what the disks of a clone are copies of.

        Raises VmUnknown, SnapshotUnknown, SnapshotBroken, SnapshotLocked, BadVm.
        """
        if copied is None:
            return {e.disk_id: Source(str(e.from_disk_id)) for e in vm.spec.disks}
        original = self._volumes.find(copied.vm_id)
        if original is None:
            original = self._register.get(copied.vm_id).vm
        snapshot = snapshots.get(original, copied.snapshot_id)
        snapshot_checks.check_whole(snapshot)
        kept = {each.disk_id: each.volume_id for each in snapshot.disks}
        named = dict(copied.disks)
        for disk in vm.spec.disks:
            if named.get(disk.disk_id) not in kept:
                raise definition.BadVm(
                    f"disk {disk.disk_id} is no copy of one of the snapshot",
                    field="disks",
                )
        return {
            disk.disk_id: Source(named[disk.disk_id], kept[named[disk.disk_id]])
            for disk in vm.spec.disks
        }

    def _new(self, asked: VmSpec, copied: SnapshotCopied | None) -> Vm:
        """Return the definition of a VM that does not exist yet."""
        host = self._host()
        template = None
        if asked.template_id is not None:
            template = self._keeper.get(asked.template_id)
        templates.check_made_of(asked, template)
        if copied is None:
            templates.check_clone(asked, template)
        spec = definition.pin(asked, host, {})
        definition.check_alone(spec, host)
        definition.check_beside(spec, (each.vm for each in self._register.list()))
        home = self._volumes.home(spec)
        now = rfc3339(self._clock.now())
        return Vm(spec, 1, now, addresses=domxml.assign_addresses(spec), home=home)

    def _take_lease_back(self, vm: Vm, job_id: JobId) -> None:
        """Remove the lease of a VM that is not made, unless it may be all the same."""
        vm_id, pool_id = vm.spec.vm_id, vm.spec.pool_id
        try:
            # In this order: what is ended in between has made it, or never will.
            is_left = self._keeper.is_left(pool_id, job_id)
            if not is_left and self._keeper.find(vm_id, pool_id) is None:
                self._changes.remove_lease(vm)
        except Error as error:
            log.info("the lease of VM %s stays: %s", vm.spec.vm_id, error)

    def _tell(self, code: str, progress: Progress, name: str) -> None:
        with self._store.change() as change:
            change.event(code, correlation_id=progress.job.correlation_id, name=name)

    def _submit(
        self,
        verb: str,
        object_id: str,
        request: CreateTemplate | DeleteTemplate | CloneVm,
        asked: Mapping[str, Any],
    ) -> Job:
        arguments = wire.to_json(asked)
        return self._jobs.submit(
            verb,
            Kind.TEMPLATE,
            object_id,
            lambda progress: self._works[verb](arguments, progress),
            job_id=request.job_id,
            correlation_id=request.correlation_id,
            arguments=arguments,
        )

    def _again(self, job: Job, arguments: wire.Json) -> jobs.Runner:
        def run(progress: Progress) -> None:
            pool_id = PoolId(arguments["pool_id"]) if arguments["pool_id"] else None
            if pool_id is not None:
                self._volumes.wait_for_pool(pool_id, progress.pause)
                self._keeper.go_on(pool_id, progress)
            self._works[job.verb](arguments, progress)

        return run


def _copied(asked: wire.Json) -> SnapshotCopied | None:
    """Return the state that is copied; None: that of a template."""
    told = asked.get("snapshot")
    return wire.from_json(SnapshotCopied, told, strict=False) if told else None


def _states(request: CreateTemplate, vm: Vm) -> Mapping[DiskId, str]:
    """Return which volumes of a VM's disks are copied, where it is not the newest."""
    if request.snapshot_id is None:
        return {}
    snapshot = snapshots.get(vm, request.snapshot_id)
    return {each.disk_id: each.volume_id for each in snapshot.disks}


def check_down(entry: VmEntry) -> None:
    """Refuse a VM that runs; VmNotDown."""
    if states.is_active(entry.run.state):
        raise VmNotDown(f"VM {entry.vm.spec.name} is {entry.run.state}")


def _nobody_runs() -> None:
    """Know that no guest runs with what is copied: a template's disks."""
