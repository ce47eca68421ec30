"""Register VMs that came with a storage domain: a job of the pool's manager.

What lies there becomes a definition of this pool, one generation later, in one write:
so whatever ends the job, it is done or not begun. Its disks and snapshots stay as
they are. Refused, nothing is changed. What was exported is imported instead.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol

from node import jobs, wire
from node.contract.unregistered import Found, Newcomers, NotUnregistered
from node.errors import Conflict
from node.jobs import Jobs, Progress
from node.model.feed import Kind
from node.model.host import NodeFacts
from node.model.ids import CorrelationId, PoolId, StorageDomainId, VmId
from node.model.job import Job
from node.model.unregistered import RegisterVm, Source
from node.model.vm import Cpu, CpuMode, Nic, Snapshot, Vm, VmMemory, VmSpec, Wanted
from node.vm import definition, domxml, importing

log = logging.getLogger(__name__)

VERB: Final = "storage_domain_register_vm"


class MayRunElsewhere(Conflict):
    """It was not down when it was written, or its lease is not here to say so."""

    code = "vm_may_run_elsewhere"
    remedy = "Make sure that it runs nowhere, then force it."


class DisksMissing(Conflict):
    """The VM has disks that are not in this pool."""

    code = "vm_disks_missing"
    remedy = "Import their storage domains first, or let the VM lose these disks."


class NetworkMissing(Conflict):
    """A card of the VM is on a network that is not here."""

    code = "vm_network_missing"
    remedy = "Name a network of this node instead, or let the VM lose the card."


class Editor(Protocol):
    """Who writes definitions; `node.vm.pool_editing` does."""

    def take_in(
        self, vm: Vm, lying: Vm, correlation_id: CorrelationId | None
    ) -> None: ...

    def has(self, vm_id: VmId) -> bool: ...


class Registrar:
    """The registering of VMs. Any thread may call."""

    def __init__(
        self,
        editor: Editor,
        newcomers: Newcomers,
        importer: importing.Importer,
        job_queue: Jobs,
        host: Callable[[], NodeFacts],
    ) -> None:
        self._editor = editor
        self._newcomers = newcomers
        self._importer = importer
        self._jobs = job_queue
        self._host = host

    def register(self, storage_domain_id: StorageDomainId, request: RegisterVm) -> Job:
        """Make a VM of what lies on a storage domain.

        NotSpm, NotUnregistered, BadVm, MayRunElsewhere, DisksMissing, NetworkMissing,
        TemplateNameTaken, and as `Importer.check`;
        in the job NameTaken, MacTaken, DiskTaken and VmRunsElsewhere as well.
        """
        if (known := self._known(request)) is not None:
            return known
        found = self._find(storage_domain_id, request)
        vm = wanted(found, request, self._host())
        self._newcomers.check_name(storage_domain_id, vm)
        if found.source is Source.EXPORT:
            self._importer.check(vm, request)
        return self._jobs.submit(
            VERB,
            Kind.VM,
            request.as_vm_id or request.vm_id,
            lambda progress: self._run(storage_domain_id, request, progress),
            job_id=request.job_id,
            correlation_id=request.correlation_id,
            arguments={
                "storage_domain_id": storage_domain_id,
                "pool_id": vm.spec.pool_id,
                "request": wire.to_json(request),
            },
        )

    def job_handlers(self) -> Mapping[str, jobs.Handler]:
        """Return what runs an unfinished job of ours again, by verb."""
        return {VERB: self._again}

    def _known(self, request: RegisterVm) -> Job | None:
        """Return the job that was asked for before."""
        if request.job_id is None:
            return None
        try:
            job = self._jobs.get(request.job_id)
        except jobs.JobUnknown:
            return None
        return job if job.verb == VERB else None

    def _again(self, job: Job, arguments: wire.Json) -> jobs.Runner:
        where = StorageDomainId(arguments["storage_domain_id"])
        request = wire.from_json(RegisterVm, arguments["request"], strict=False)

        def run(progress: Progress) -> None:
            if request.to_storage_domain_id is not None:
                self._importer.go_on(PoolId(arguments["pool_id"]), progress)
            self._run(where, request, progress)

        return run

    def _run(
        self,
        storage_domain_id: StorageDomainId,
        request: RegisterVm,
        progress: Progress,
    ) -> None:
        vm_id = request.as_vm_id or request.vm_id
        progress.step(10, "reading its definition")
        try:
            found = self._find(storage_domain_id, request)
        except NotUnregistered:
            if not self._editor.has(vm_id):
                raise
            return  # before a restart of the agent
        vm = wanted(found, request, self._host())
        self._newcomers.check_name(storage_domain_id, vm)
        if found.source is Source.EXPORT:
            self._importer.run(storage_domain_id, vm, request, progress)
            log.info("VM %s (%s) imported", vm_id, vm.spec.name)
            return
        progress.step(60, "writing its definition")
        self._editor.take_in(vm, found.vm, request.correlation_id)
        log.info("VM %s (%s) registered", vm_id, vm.spec.name)

    def _find(self, storage_domain_id: StorageDomainId, request: RegisterVm) -> Found:
        found = self._newcomers.find(storage_domain_id, request.vm_id)
        importing.check_target(found, request)
        return found


def wanted(found: Found, request: RegisterVm, host: NodeFacts) -> Vm:
    """Return the definition that is asked for, as this node can have it. Pure."""
    name, missing = found.vm.spec.name, found.missing_disks
    if found.may_run and not request.is_forced:
        raise MayRunElsewhere(
            f"VM {name} was not down when it was written, or its lease is not here",
            name=name,
        )
    if missing and not request.may_lose_disks:
        raise DisksMissing(
            f"VM {name} has disks that are not here: {', '.join(missing)}", name=name
        )
    vm_id = request.as_vm_id or request.vm_id
    asked = replace(
        found.vm.spec,
        vm_id=vm_id,
        name=name if request.name is None else request.name,
        cpu=_cpu(found.vm.spec.cpu, host),
        nics=_nics(found, request, host),
        machine=found.vm.spec.machine if _has_machine(found, host) else None,
    )
    if found.vm.template is not None:
        return _template(found.vm, asked, host)
    spec = definition.pin(asked, host, {})
    definition.check_alone(spec, host)
    addresses = found.vm.addresses if _has_machine(found, host) else ()
    return replace(
        found.vm,
        spec=spec,
        generation=found.vm.generation + 1,
        wanted=Wanted.DOWN,
        addresses=domxml.assign_addresses(spec, addresses),
        # It was of another pool: nobody goes on there, and the manager removes it.
        memory=_unsaved(found.vm.memory),
        snapshots=tuple(_snapshot(each, vm_id) for each in found.vm.snapshots),
    )


def _snapshot(snapshot: Snapshot, vm_id: VmId) -> Snapshot:
    """Return a snapshot of the VM as it is here; its memory knows the VM by its id."""
    is_same = snapshot.vm_id == vm_id
    memory = snapshot.memory if is_same else _unsaved(snapshot.memory)
    return replace(snapshot, vm_id=vm_id, memory=memory)


def _unsaved(memory: VmMemory | None) -> VmMemory | None:
    return replace(memory, is_saved=False) if memory is not None else None


def _template(lying: Vm, spec: VmSpec, host: NodeFacts) -> Vm:
    """Return a template, whose cards have no addresses and which never runs."""
    definition.check_name(spec.name)
    definition.check_description(spec.description)
    definition.check_memory(spec, host)
    nics = tuple(replace(each, mac="") for each in spec.nics)
    spec = replace(spec, nics=nics)
    return replace(lying, spec=spec, generation=lying.generation + 1)


def _has_machine(found: Found, host: NodeFacts) -> bool:
    """Tell whether this node has the machine type; oVirt's names are other ones."""
    return found.vm.spec.machine in host.machines


def _cpu(cpu: Cpu, host: NodeFacts) -> Cpu:
    """Return the processor, with the host's model if the VM's is not usable here."""
    if cpu.mode is CpuMode.NAMED and cpu.model not in host.cpu.usable_models:
        return replace(cpu, mode=CpuMode.HOST_MODEL, model=None)
    return cpu


def _nics(found: Found, request: RegisterVm, host: NodeFacts) -> tuple[Nic, ...]:
    networks = {each.network: each.to for each in request.networks}
    macs = {each.nic_id: each.mac for each in request.macs}
    kept = []
    for nic in found.vm.spec.nics:
        network = networks.get(nic.network, nic.network)
        is_dropped = nic.network in networks and not network
        if network not in host.networks and not is_dropped:
            if not request.may_lose_nics:
                raise NetworkMissing(
                    f"card {nic.name} of VM {found.vm.spec.name} is on network "
                    f"{network or '(none)'}, which node {host.name} does not have",
                    network=network,
                )
            is_dropped = True
        if not is_dropped:
            mac = macs.get(nic.nic_id, nic.mac)
            kept.append(replace(nic, network=network, mac=mac))
    return tuple(kept)
