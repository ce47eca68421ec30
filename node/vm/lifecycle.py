"""Create, start, stop and delete VMs: the verbs.

A verb checks, makes a job persistent and returns it; the job does the work.
Jobs of one VM run one after the other. Each can be run again after the agent
was killed at any moment: it looks first, and does only what is left to do.
"""

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from node import jobs, wire
from node.clock import Clock, parse_rfc3339, rfc3339
from node.config import Config
from node.contract.exports import Exports
from node.contract.hooks import Hooks
from node.contract.volumes import Volumes
from node.errors import Conflict, Invalid
from node.jobs import Jobs, Progress
from node.model.feed import Kind
from node.model.host import Image, NodeFacts
from node.model.ids import CorrelationId, DiskId, VmId
from node.model.job import Job, JobState
from node.model.properties import CustomProperty
from node.model.reason import Reason
from node.model.requests import (
    ActOnVm,
    AttachDisk,
    CreateVm,
    DeleteVm,
    DetachDisk,
    ResizeVmDisk,
    SetProperties,
    StartVm,
    StopManner,
    StopVm,
)
from node.model.stats import VmStats
from node.model.vm import (
    Disk,
    ForeignVm,
    GuestFacts,
    Vm,
    VmEntry,
    VmSpec,
)
from node.policy import properties
from node.store import Store
from node.system.hypervisor import (
    Activity,
    DomainMissing,
    Hypervisor,
    HypervisorDown,
)
from node.vm import definition, guests, live_disks, pool_editing, states
from node.vm.creating import Creator, VmGone
from node.vm.exporting import Exporter, Holder
from node.vm.files import VmFiles
from node.vm.guests import MakeGuests
from node.vm.limiting import Limiter
from node.vm.observer import QEMU_LOGS, Observer
from node.vm.pausing import Pauser
from node.vm.pool_editing import PoolEditor
from node.vm.pool_vms import PoolVmsWatch
from node.vm.register import Sight, VmRegister
from node.vm.snapshot_changes import VmChanges
from node.vm.snapshotting import Snapshotter
from node.vm.starting import Starter
from node.vm.states import Seen
from node.vm.stats import VmStatsSampler
from node.vm.stopping import Stopper
from node.vm.telling import Teller
from node.vm.templates import Changes, Keeper, Templates

log = logging.getLogger(__name__)

Act = ActOnVm | DeleteVm | AttachDisk | DetachDisk | ResizeVmDisk | SetProperties

_HYPERVISOR_WAIT_S = 20.0  # libvirtd restarts in two
_AGAIN_S = 0.2
_OWN_POOL_LOOKS = 100  # after a boot it is managed within a second or two
_DEADLINE_MAX_S = 3600.0


class StaleGeneration(Conflict):
    """The VM was changed after the caller looked."""

    code = "stale_generation"
    remedy = "Look at the VM again, then decide anew."


class NotDown(Conflict):
    """The VM must be down for this."""

    code = "vm_not_down"
    remedy = "Stop the VM first."


class NotRunning(Conflict):
    """The VM must run for this."""

    code = "vm_not_running"
    remedy = "Start the VM first."


class BadDeadline(Invalid):
    """A deadline is no number of seconds that we wait."""

    code = "bad_deadline"
    remedy = "Give a number from 0 to 3600."


class Lifecycle:
    """The virtual machines of this node."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        store: Store,
        job_queue: Jobs,
        clock: Clock,
        config: Config,
        host: Callable[[], NodeFacts],
        list_images: Callable[[Path], tuple[Image, ...]],
        make_guests: MakeGuests,
        volumes: Volumes,
        hooks: Hooks,
        logs: Path = QEMU_LOGS,
    ) -> None:
        self._hypervisor = hypervisor
        self._volumes = volumes
        self._jobs = job_queue
        self._clock = clock
        self._config = config
        self._host = host
        self._files = VmFiles(Path(config.state_folder), config.qemu_group)
        self._register = VmRegister(
            store, clock, lambda: host().name, config.guest_wait_s
        )
        volumes.watch(self._register.is_active)
        self._live = live_disks.of(hypervisor)
        self._guests = make_guests(
            *(hypervisor, clock, self._guests_to_ask, self._take_guest_facts),
            self._live.freezer.mend,
        )
        self._observer = Observer(
            *(hypervisor, store, self._register, clock, host, self._guests.poke),
            *(lambda: self.pool_vms.poke(), volumes.has_lost, logs),
        )
        seen = (hypervisor, self._register, self._observer)
        self._pauser = Pauser(*seen, volumes, clock, hooks)
        self._teller = Teller(hooks, hypervisor, self._files)
        self._register.on_run = self._teller.take
        self._starter = Starter(
            *(*seen, self._files, volumes, clock, config, host, self._pauser, hooks)
        )
        self._stopper = Stopper(*seen, clock, self._pauser.is_stale, self._teller.end)
        self.pool_vms: PoolVmsWatch = PoolVmsWatch(
            *(self._register, volumes, self._observer, self._pauser),
            *(self._starter, clock, Limiter(hypervisor, self._register, volumes)),
            lambda: host().node_id,
        )
        known = (hypervisor, self._register, volumes, clock, host)
        self.editor = PoolEditor(*known, hooks)
        self._creator = Creator(
            *(self._register, volumes, self.editor),
            lambda: list_images(self._files.images),
        )
        self._sampler = VmStatsSampler(
            *(hypervisor, clock, self._register.list, self._take_silence),
            config.stats_interval_s,
        )
        self._works: Mapping[str, Callable[[VmId, wire.Json, Progress], None]] = {
            "vm_start": self._start,
            "vm_stop": self._stop,
            "vm_pause": self._pause,
            "vm_resume": self._resume,
            "vm_reset": self._reset,
            "vm_delete": self._delete,
            "vm_attach_disk": self._attach_disk,
            "vm_detach_disk": self._detach_disk,
            "vm_resize_disk": self._resize_disk,
            "vm_set_properties": self._set_properties,
        }

    # --- life of the service

    def run(self) -> None:
        """Finish what a crash left, connect to the hypervisor, begin to look."""
        self._files.prepare()
        self._teller.start()
        self._observer.start()
        self._guests.start()
        self._sampler.start()

    def watch_pools(self) -> None:
        """Begin to look after VMs on pools: their storage can be asked."""
        self.pool_vms.start()

    def close(self) -> None:
        """Stop looking; guests are not touched."""
        self.pool_vms.close()
        self._sampler.close()
        self._guests.close()
        self._observer.close()
        self._teller.close()
        self._hypervisor.close()

    def snapshotter(self, changes: VmChanges, store: Store) -> Snapshotter:
        """Return what takes snapshots of these VMs."""
        made = Snapshotter(
            *(self._live, self._register, self, self._pauser, self._volumes),
            *(changes, store, self._jobs, self._clock),
        )
        self.pool_vms.tenders = (made.tend, self.editor.tend)
        return made

    def templates(self, keeper: Keeper, changes: Changes, store: Store) -> Templates:
        """Return what makes templates of these VMs, and full clones."""
        return Templates(
            *(keeper, self._register, self, self._volumes, changes, store),
            *(self._jobs, self._clock, self._host),
        )

    def exporter(
        self, exports: Exports, holder: Holder, keeper: Keeper, store: Store
    ) -> Exporter:
        """Return what exports these VMs, and templates."""
        return Exporter(
            *(exports, self._register, self, self._volumes, holder, keeper, store),
            *(self._jobs, self._clock),
        )

    def adopt(self, vm: Vm) -> VmEntry:
        return self.pool_vms.adopt(vm)

    def user_of(self, disk_id: str) -> VmId | None:
        """Return the VM that runs with a disk, wherever in the pool; None: none."""
        return self.pool_vms.user_of(disk_id)

    def job_handlers(self) -> Mapping[str, jobs.Handler]:
        """Return what runs an unfinished job of ours again, by verb."""
        return {verb: self._handler(verb) for verb in self._works}

    def wait_surveyed(self, timeout_s: float) -> bool:
        """Wait until all domains were looked at once; False if libvirt is down."""
        return self._observer.wait_surveyed(timeout_s)

    def problem(self) -> Reason | None:
        """Return why nothing is seen of VMs, if so."""
        return self._observer.problem()

    def left_behind(self) -> Reason | None:
        """Return that VMs are defined whose disks lie on no pool, if so."""
        names = self._register.left_behind
        if not names:
            return None
        told = ", ".join(sorted(names))
        return Reason("vms_left_behind", rfc3339(self._clock.now()), {"names": told})

    def crowding(self) -> Reason | None:
        """Return that VMs which hang hold up the questions to others, if so."""
        return self._sampler.problem()

    # --- verbs that look

    def show(self, vm_id: VmId) -> VmEntry:
        return self._register.get(vm_id)

    def describe(self, vm_id: VmId) -> str:
        """Return the domain that a VM would be started as, without its hooks."""
        return self._starter.describe(self._register.get(vm_id).vm)

    def foreign(self) -> tuple[ForeignVm, ...]:
        return self._observer.foreign()

    def stats(self) -> tuple[VmStats, ...]:
        return self._sampler.latest()

    def screenshot(self, vm_id: VmId) -> bytes:
        """Return a PNG of the screen; NotRunning if there is none."""
        entry = self._register.get(vm_id)
        try:
            return self._hypervisor.screenshot(vm_id)
        except DomainMissing as error:
            raise _not_running(entry) from error

    def serial(self, vm_id: VmId, tail_bytes: int) -> bytes:
        """Return the end of the serial log, 1 MiB at most; it outlives the run."""
        self._register.get(vm_id)
        return self._files.read_serial(vm_id, tail_bytes)

    # --- verbs that change

    def create(self, request: CreateVm) -> VmEntry:
        """Define a VM and make its disks; see `Creator.create`."""
        return self._creator.create(request)

    def find_made(self, spec: VmSpec) -> VmEntry | None:
        """Return the VM if it is here; VmDiffers, VmGone."""
        return self._creator.find_made(spec)

    def start(self, vm_id: VmId, request: StartVm) -> Job:
        """Start a VM; one that runs already is left as it is.

        The definition of a VM on a pool is read there; what comes with the request
        must be the same.
        """
        if request.vm is not None or self._register.find(vm_id) is None:
            self._learn(vm_id, request.vm)
        self.check_generation(vm_id, request.generation)
        arguments = {name: getattr(request, name) for name in _HOW}
        return self._submit("vm_start", vm_id, request, arguments)

    def stop(self, vm_id: VmId, request: StopVm) -> Job:
        """Stop a VM, by force also while its memory waits; one that is down is left."""
        self._register.get(vm_id)
        deadline_s = request.deadline_s
        if not math.isfinite(deadline_s) or not 0 <= deadline_s <= _DEADLINE_MAX_S:
            raise BadDeadline(f"deadline_s must be from 0 to {_DEADLINE_MAX_S:g}")
        arguments = {"manner": request.manner.value, "deadline_s": deadline_s}
        job = self._submit("vm_stop", vm_id, request, arguments)
        if request.manner is StopManner.FORCE and job.state is JobState.QUEUED:
            for job_id in self._register.waiting(vm_id):
                self._jobs.cancel(job_id)
        return job

    def pause(self, vm_id: VmId, request: ActOnVm) -> Job:
        return self._act("vm_pause", vm_id, request)

    def resume(self, vm_id: VmId, request: ActOnVm) -> Job:
        return self._act("vm_resume", vm_id, request)

    def reset(self, vm_id: VmId, request: ActOnVm) -> Job:
        return self._act("vm_reset", vm_id, request)

    def delete(self, vm_id: VmId, request: DeleteVm) -> Job:
        """Delete a VM that is down, with its disks; one that was is left deleted."""
        if self._register.was_deleted(vm_id):
            return self._submit("vm_delete", vm_id, request, {})
        leaves = request.may_leave_disks
        return self._act("vm_delete", vm_id, request, may_leave_disks=leaves)

    def attach_disk(self, vm_id: VmId, request: AttachDisk) -> Job:
        """Give a VM a disk of its pool; one that it has already is left as it is."""
        definition.check_pool_disk(request.disk)
        return self._act("vm_attach_disk", vm_id, request, disk=request.disk)

    def detach_disk(self, vm_id: VmId, request: DetachDisk) -> Job:
        """Take a disk away; one that is not there any more is left away."""
        asked = {"disk_id": request.disk_id, "lease_version": request.lease_version}
        return self._act("vm_detach_disk", vm_id, request, **asked)

    def resize_disk(self, vm_id: VmId, request: ResizeVmDisk) -> Job:
        """Let a disk grow while the VM runs; NotRunning, DiskNotAttached."""
        spec = self._register.get(vm_id).vm.spec
        pool_editing.check_growth(spec, request.disk_id, request.size_bytes)
        asked = {name: getattr(request, name) for name in _GROWTH}
        return self._act("vm_resize_disk", vm_id, request, **asked)

    def set_properties(self, vm_id: VmId, request: SetProperties) -> Job:
        """Give a VM, or a device of it, custom properties for its next start."""
        spec = self._register.get(vm_id).vm.spec
        properties.of(spec, request.device_id)
        properties.check(request.custom_properties)
        asked = {name: getattr(request, name) for name in _PROPERTIES}
        return self._act("vm_set_properties", vm_id, request, **asked)

    def list(self) -> tuple[VmEntry, ...]:
        return self._register.list()

    # --- how

    def _act(self, verb: str, vm_id: VmId, request: Act, **arguments: object) -> Job:
        self.check_generation(vm_id, request.generation)
        return self._submit(verb, vm_id, request, wire.to_json(arguments))

    def _submit(
        self,
        verb: str,
        vm_id: VmId,
        request: StartVm | StopVm | Act,
        arguments: dict[str, wire.Json],
    ) -> Job:
        kept = {**arguments, "vm_id": vm_id}
        if request.correlation_id is not None:
            kept["correlation_id"] = request.correlation_id
        work = self._works[verb]
        return self._jobs.submit(
            verb,
            Kind.VM,
            vm_id,
            lambda progress: work(vm_id, kept, progress),
            job_id=request.job_id,
            correlation_id=request.correlation_id,
            arguments=kept,
        )

    def _handler(self, verb: str) -> jobs.Handler:
        work = self._works[verb]

        def handle(job: Job, arguments: wire.Json) -> jobs.Runner | None:
            vm_id = VmId(arguments["vm_id"])
            is_known = self._register.find(vm_id) is not None
            if verb == "vm_reset" or (verb != "vm_delete" and not is_known):
                return None  # to reset it twice would be once too often
            booted_at = parse_rfc3339(self._host().booted_at)
            if verb == "vm_start" and parse_rfc3339(job.created_at) < booted_at:
                return None  # whoever asked has seen the host go down

            def run(progress: Progress) -> None:
                entry = self._register.find(vm_id)
                if entry is not None:
                    self._volumes.wait_for_pool(entry.vm.spec.pool_id, progress.pause)
                work(vm_id, {**arguments, _AGAIN: True}, progress)

            return run

        return handle

    def check_generation(self, vm_id: VmId, generation: int | None) -> None:
        """Refuse a caller that saw another definition; StaleGeneration."""
        vm = self._register.get(vm_id).vm
        if generation is not None and generation != vm.generation:
            raise StaleGeneration(
                f"VM {vm.spec.name} is at generation {vm.generation}, not {generation}",
                generation=vm.generation,
            )

    def _learn(self, vm_id: VmId, given: Vm | None = None) -> None:
        """Take on a VM's definition as its pool has it; `given` must be the same.

        Raises VmUnknown, VmGone, StaleGeneration, BadVm.
        """
        stored = self._volumes.find(vm_id)
        if stored is None:
            name = self._register.get(vm_id).vm.spec.name
            raise VmGone(f"VM {name} is on no active storage domain", vm_id=vm_id)
        if self._register.was_deleted(vm_id):
            raise VmGone(f"VM {vm_id} was deleted", vm_id=vm_id)
        if given is not None and given.generation != stored.generation:
            raise StaleGeneration(
                f"VM {stored.spec.name} is at generation {stored.generation}, not "
                f"{given.generation}",
                generation=stored.generation,
            )
        definition.check_alone(stored.spec, self._host())
        self.pool_vms.adopt(stored)

    def _start(self, vm_id: VmId, arguments: wire.Json, progress: Progress) -> None:
        entry = self.look_first(vm_id, progress)
        if states.is_active(entry.run.state) and entry.run.started_at is not None:
            self._starter.go_on(entry, progress, _correlation(arguments))
            if arguments.get(_AGAIN):  # nobody knows whether hooks were told
                self._starter.tell(entry.vm)
            return
        progress.check()
        self._await_pool(entry, progress)
        self._learn(vm_id)
        how = {each: bool(arguments.get(each)) for each in _HOW}
        self._starter.start(vm_id, progress, _correlation(arguments), **how)

    def _stop(self, vm_id: VmId, arguments: wire.Json, progress: Progress) -> None:
        manner = StopManner(arguments["manner"])
        deadline_s = float(arguments["deadline_s"])
        entry = self.look_first(vm_id, progress)
        if manner is StopManner.FORCE and not states.is_active(entry.run.state):
            self._starter.discard(entry, progress)
        self._stopper.stop(vm_id, manner, deadline_s, _correlation(arguments), progress)

    def _pause(self, vm_id: VmId, arguments: wire.Json, progress: Progress) -> None:
        self._check_running(vm_id, progress)
        self._pauser.pause(vm_id, _correlation(arguments))

    def _resume(self, vm_id: VmId, arguments: wire.Json, progress: Progress) -> None:
        self._check_running(vm_id, progress)
        self._pauser.resume(vm_id, _correlation(arguments))

    def _reset(self, vm_id: VmId, arguments: wire.Json, progress: Progress) -> None:
        self._check_running(vm_id, progress)
        # Before the reset, so that the guest's word from before it is forgotten.
        told = _correlation(arguments)
        self._apply(vm_id, Sight(Seen.REBOOTED, event="vm_reset", correlation_id=told))
        self._hypervisor.reset(vm_id)

    def _delete(self, vm_id: VmId, arguments: wire.Json, progress: Progress) -> None:
        entry = self._register.find(vm_id)
        left: tuple[str, ...] = ()
        if entry is not None:
            entry = self.look_first(vm_id, progress)
            if states.is_active(entry.run.state):
                raise NotDown(f"VM {entry.vm.spec.name} is {entry.run.state}")
            progress.check()
            progress.step(50, "removing its disks")
            self._await_pool(entry, progress)
            with self._pauser.turn(vm_id):
                leaves = bool(arguments.get("may_leave_disks"))
                words = (entry.vm, progress)
                left = self._volumes.delete(*words, may_leave_disks=leaves)
            self._register.remove(vm_id, _correlation(arguments), left)
        self._files.remove(vm_id)
        log.info("VM %s deleted", vm_id)

    def _attach_disk(
        self, vm_id: VmId, arguments: wire.Json, progress: Progress
    ) -> None:
        disk = wire.from_json(Disk, arguments["disk"], strict=False)
        self.editor.attach(self.look_first(vm_id, progress), disk)

    def _detach_disk(
        self, vm_id: VmId, arguments: wire.Json, progress: Progress
    ) -> None:
        entry = self.look_first(vm_id, progress)
        disk_id, version = arguments["disk_id"], arguments.get("lease_version")
        self.editor.detach(entry, DiskId(disk_id), progress, version)

    def _resize_disk(
        self, vm_id: VmId, arguments: wire.Json, progress: Progress
    ) -> None:
        disk_id, size_bytes, version = (arguments.get(each) for each in _GROWTH)
        look = self._check_running if version is None else self.look_first
        self.editor.resize(look(vm_id, progress), disk_id, size_bytes, version)

    def _set_properties(
        self, vm_id: VmId, arguments: wire.Json, progress: Progress
    ) -> None:
        given, device_id = (arguments[each] for each in _PROPERTIES)
        wanted = wire.from_json(tuple[CustomProperty, ...], given)
        self.editor.set_properties(self.look_first(vm_id, progress), device_id, wanted)

    def _check_running(self, vm_id: VmId, progress: Progress) -> VmEntry:
        entry = self.look_first(vm_id, progress)
        if entry.run.started_at is None:
            raise _not_running(entry)
        return entry

    def look_first(self, vm_id: VmId, progress: Progress) -> VmEntry:
        """Look before acting: wait for libvirt, which may be starting, as we may."""
        deadline = self._clock.monotonic() + _HYPERVISOR_WAIT_S
        while True:
            try:
                return self._look(vm_id)
            except HypervisorDown:
                if self._clock.monotonic() >= deadline:
                    raise
            progress.step(0, "waiting for libvirt")
            progress.pause(_AGAIN_S)

    def _await_pool(self, entry: VmEntry, progress: Progress) -> None:
        """Wait a while until a VM's pool is told, and managed if it is this node's."""
        pool_id = entry.vm.spec.pool_id
        self._volumes.wait_for_pool(pool_id, progress.pause)
        for _ in range(_OWN_POOL_LOOKS):
            own = self._volumes.own()
            if own is None or own.pool_id != pool_id or own.storage_domain_id:
                return
            progress.pause(_AGAIN_S)

    def _look(self, vm_id: VmId) -> VmEntry:
        return self._observer.look(vm_id) or self._register.get(vm_id)

    def _apply(self, vm_id: VmId, sight: Sight) -> VmEntry:
        return self._register.apply(vm_id, sight) or self._register.get(vm_id)

    def _guests_to_ask(self) -> Mapping[VmId, bool]:
        wait_s = self._config.guest_wait_s
        return guests.to_ask(self._register.list(), self._clock.now(), wait_s)

    def _take_guest_facts(self, vm_id: VmId, said: GuestFacts) -> None:
        self._register.apply(vm_id, Sight(Seen.GUEST_ANSWERED, guest=said))

    def _take_silence(self, vm_id: VmId, is_silent: bool) -> None:
        if is_silent:
            self._register.apply(vm_id, Sight(Seen.SILENT))
            return
        is_paused = self._hypervisor.observe(vm_id).activity in _PAUSED
        self._register.apply(
            vm_id, Sight(Seen.ANSWERS_PAUSED if is_paused else Seen.ANSWERS)
        )
        self._look(vm_id)


_HOW = ("is_paused", "discard_memory")
_AGAIN = "is_again"  # the job is run again, after a restart of the agent
_GROWTH = ("disk_id", "size_bytes", "lease_version")
_PROPERTIES = ("custom_properties", "device_id")
_PAUSED = frozenset({Activity.PAUSED, Activity.FAULTED})


def _correlation(arguments: wire.Json) -> CorrelationId | None:
    text = arguments.get("correlation_id")
    return None if text is None else CorrelationId(text)


def _not_running(entry: VmEntry) -> NotRunning:
    return NotRunning(f"VM {entry.vm.spec.name} is {entry.run.state}")
