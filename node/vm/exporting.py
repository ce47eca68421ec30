"""Export VMs that are down, and templates; remove what was: jobs of the manager.

The VM's lease is held meanwhile, so that nobody starts it. Run again after a restart
of the agent, the job finds what it has done by the moment at which it was asked for.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Final, Protocol

from node import jobs, wire
from node.clock import Clock, rfc3339
from node.contract import snapshots
from node.contract.exports import Exports
from node.contract.volumes import Volumes
from node.jobs import Jobs, Progress
from node.model.exports import ExportTemplate, ExportVm, RemoveExported
from node.model.feed import Kind
from node.model.ids import PoolId, StorageDomainId, TemplateId, VmId
from node.model.job import Job
from node.model.vm import Vm, VmEntry
from node.store import Store
from node.vm.register import VmRegister
from node.vm.templates import check_down

log = logging.getLogger(__name__)

VERB: Final = "vm_export"
REMOVE: Final = "storage_domain_remove_exported"
TEMPLATE: Final = "template_export"


Request = ExportVm | ExportTemplate | RemoveExported


class Holder(Protocol):
    """Who lets nobody start a VM; `node.storage.pools.volumes` does."""

    def holding(self, vm: Vm) -> AbstractContextManager[int | None]: ...


class Lookout(Protocol):
    """Who looks at VMs and knows them; `node.vm.lifecycle` does."""

    def look_first(self, vm_id: VmId, progress: Progress) -> VmEntry: ...

    def check_generation(self, vm_id: VmId, generation: int | None) -> None: ...


class Keeper(Protocol):
    """Who keeps templates; `node.storage.pools.templates` does."""

    def get(self, template_id: TemplateId) -> Vm: ...


class Exporter:
    """The export of VMs. Any thread may call."""

    def __init__(
        self,
        exports: Exports,
        register: VmRegister,
        lookout: Lookout,
        volumes: Volumes,
        holder: Holder,
        keeper: Keeper,
        store: Store,
        job_queue: Jobs,
        clock: Clock,
    ) -> None:
        self._exports = exports
        self._register = register
        self._lookout = lookout
        self._volumes = volumes
        self._holder = holder
        self._keeper = keeper
        self._store = store
        self._jobs = job_queue
        self._clock = clock

    def export(self, vm_id: VmId, request: ExportVm) -> Job:
        """Copy a VM to an export storage domain.

        VmNotDown, InPreview, NotAnExport, VmExported, NotSpm; in the job NoSpace,
        DiskLocked, DiskExported and VmRunsElsewhere as well.
        """
        if (known := self._known(request)) is not None:
            return known
        self._lookout.check_generation(vm_id, request.generation)
        entry = self._register.get(vm_id)
        vm = entry.vm
        check_down(entry)
        snapshots.check_settled(vm)
        asked = self._asked(vm, request) | {"vm_id": vm_id}
        return self._jobs.submit(
            VERB,
            Kind.VM,
            vm_id,
            lambda progress: self._run(asked, progress),
            job_id=request.job_id,
            correlation_id=request.correlation_id,
            arguments=asked,
        )

    def export_template(self, template_id: TemplateId, request: ExportTemplate) -> Job:
        """Copy a template, which never changes, to an export storage domain.

        TemplateUnknown, NotAnExport, VmExported, NotSpm; in the job NoSpace,
        DiskLocked and DiskExported as well.
        """
        if (known := self._known(request)) is not None:
            return known
        template = self._keeper.get(template_id)
        asked = self._asked(template, request) | {"template_id": template_id}
        return self._jobs.submit(
            TEMPLATE,
            Kind.TEMPLATE,
            template_id,
            lambda progress: self._run_template(asked, progress),
            job_id=request.job_id,
            correlation_id=request.correlation_id,
            arguments=asked,
        )

    def remove(
        self, storage_domain_id: StorageDomainId, request: RemoveExported
    ) -> Job:
        """Remove what was exported; NotAnExport, NotExported, NotSpm.

        In the job DiskLocked as well.
        """
        if (known := self._known(request)) is not None:
            return known
        vm_id = request.vm_id
        pool_id = self._exports.check_removal(vm_id, storage_domain_id)
        asked: wire.Json = {
            "vm_id": vm_id,
            "pool_id": pool_id,
            "storage_domain_id": storage_domain_id,
        }
        return self._jobs.submit(
            REMOVE,
            Kind.STORAGE_DOMAIN,
            storage_domain_id,
            lambda progress: self._remove(asked, progress),
            job_id=request.job_id,
            correlation_id=request.correlation_id,
            arguments=asked,
        )

    def job_handlers(self) -> Mapping[str, jobs.Handler]:
        """Return what runs an unfinished job of ours again, by verb."""
        runs = {VERB: self._run, TEMPLATE: self._run_template, REMOVE: self._remove}
        return {verb: self._handler(run) for verb, run in runs.items()}

    def _asked(
        self, vm: Vm, request: ExportVm | ExportTemplate
    ) -> dict[str, wire.Json]:
        """Return what a job is told, if it can be done."""
        target, is_replacing = request.storage_domain_id, request.is_replacing
        self._exports.check(vm, target, is_replacing=is_replacing)
        return {
            "pool_id": vm.spec.pool_id,
            "storage_domain_id": target,
            "at": self._moment(vm, target),
            "is_replacing": is_replacing,
        }

    def _moment(self, vm: Vm, target: StorageDomainId) -> str:
        """Return now, or the next second that no export lies there of."""
        now = self._clock.now()
        while self._exports.is_done(vm, target, rfc3339(now)):
            now += timedelta(seconds=1)
        return rfc3339(now)

    def _known(self, request: Request) -> Job | None:
        """Return the job that was asked for before."""
        if request.job_id is None:
            return None
        try:
            job = self._jobs.get(request.job_id)
        except jobs.JobUnknown:
            return None
        return job if job.verb in (VERB, TEMPLATE, REMOVE) else None

    def _handler(self, run: Callable[[wire.Json, Progress], None]) -> jobs.Handler:
        def handle(job: Job, arguments: wire.Json) -> jobs.Runner:
            def again(progress: Progress) -> None:
                pool_id = PoolId(arguments["pool_id"])
                self._volumes.wait_for_pool(pool_id, progress.pause)
                self._exports.go_on(pool_id, progress)
                run(arguments, progress)

            return again

        return handle

    def _run(self, asked: wire.Json, progress: Progress) -> None:
        vm_id, at = VmId(asked["vm_id"]), str(asked["at"])
        target = StorageDomainId(asked["storage_domain_id"])
        vm = self._volumes.find(vm_id)
        if vm is None:
            raise snapshots.DefinitionChanged(f"VM {vm_id} was deleted")
        if not self._exports.is_done(vm, target, at):
            check_down(self._lookout.look_first(vm_id, progress))
            with self._holder.holding(vm):
                self._write(vm, asked, progress, self._check_idle(vm_id))
        with self._store.change() as change:
            change.event(
                "vm_exported",
                vm_id=vm_id,
                correlation_id=progress.job.correlation_id,
                name=vm.spec.name,
            )
        log.info("VM %s (%s) exported to %s", vm_id, vm.spec.name, target)

    def _run_template(self, asked: wire.Json, progress: Progress) -> None:
        template_id, at = TemplateId(asked["template_id"]), str(asked["at"])
        target = StorageDomainId(asked["storage_domain_id"])
        template = self._keeper.get(template_id)
        if not self._exports.is_done(template, target, at):
            self._write(template, asked, progress, _never_runs)
        name = template.spec.name
        with self._store.change() as change:
            change.event(
                "template_exported",
                correlation_id=progress.job.correlation_id,
                name=name,
            )
        log.info("template %s (%s) exported to %s", template_id, name, target)

    def _write(
        self,
        vm: Vm,
        asked: wire.Json,
        progress: Progress,
        check_idle: Callable[[], None],
    ) -> None:
        target = StorageDomainId(asked["storage_domain_id"])
        is_replacing = bool(asked.get("is_replacing", False))
        self._exports.check(vm, target, is_replacing=is_replacing)
        if is_replacing:
            self._exports.make_way(vm, target, progress)
        self._exports.write(vm, target, str(asked["at"]), progress, check_idle)

    def _remove(self, asked: wire.Json, progress: Progress) -> None:
        vm_id, origin = (
            VmId(asked["vm_id"]),
            StorageDomainId(asked["storage_domain_id"]),
        )
        if self._exports.lies(vm_id, origin):
            self._exports.remove(vm_id, origin, progress)
        with self._store.change() as change:
            change.event(
                "exported_removed",
                correlation_id=progress.job.correlation_id,
                vm=vm_id,
                storage_domain_id=origin,
            )
        log.info("VM %s removed from %s", vm_id, origin)

    def _check_idle(self, vm_id: VmId) -> Callable[[], None]:
        return lambda: check_down(self._register.get(vm_id))


def _never_runs() -> None:
    """Let a template be copied at any time."""
