"""Start a VM: its lease, its disks, its domain.

Before QEMU opens a disk, the node takes the VM's lease itself for a moment: who runs
elsewhere is refused with the name of the node, and nothing touches its disks. While it
has the lease, it reads what the VM starts with. Between that moment and libvirt's own
acquisition somebody else may be quicker: if he still has the lease, libvirt is refused,
and the guest has not run; if he had it, he may have changed what was read, and the
guest is killed.

A suspended VM goes on with its memory (`node.contract.memories`): it is restored
paused, the memory is used, and then the guest is resumed as any other. Who resumes a
guest whose memory is not used uses it up first, so a start that was cut short in
between can go on, or be followed by another.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Final

from node.clock import Clock, rfc3339
from node.config import Config
from node.contract.hooks import Edited, HookEditRefused, Hooks
from node.contract.memories import MemoryMark, MemoryMissing
from node.contract.volumes import (
    STALE_LEASE,
    OpenVolume,
    VmLease,
    VmRunsElsewhere,
    Volumes,
    open_all,
)
from node.errors import Busy, Conflict, Error, Failed, Unavailable
from node.jobs import Progress
from node.model.hooks import HookPoint
from node.model.host import NodeFacts
from node.model.ids import CorrelationId, DiskId, VmId
from node.model.vm import EndCause, Firmware, Vm, VmEnd, VmEntry, VmState, Wanted
from node.system.hypervisor import (
    DomainExists,
    DomainLeased,
    DomainMissing,
    Hypervisor,
    HypervisorRefused,
)
from node.vm import device_hooks, disk_hooks, domxml, files, restored_xml
from node.vm.files import VmFiles
from node.vm.observer import Observer
from node.vm.pausing import Pauser
from node.vm.register import Sight, VmRegister
from node.vm.states import Seen

log = logging.getLogger(__name__)

_EMULATE_ALWAYS: Final = "always"
# sanlock gives back what a killed QEMU had within a second or two.
_LEASE_WAIT_S: Final = 10.0
_AGAIN_S: Final = 0.2
_STORAGE_AGAIN_S: Final = 2.0


class LeaseNotTaken(Failed):
    """libvirt started the guest, and did not ask for its lease: it was killed."""

    code = "vm_lease_not_taken"
    remedy = (
        'Put lock_manager = "sanlock" into /etc/libvirt/qemu.conf, and'
        " auto_disk_leases = 0 and require_lease_for_disks = 0 into"
        " /etc/libvirt/qemu-sanlock.conf; then start libvirtd again."
    )


class DefinitionMoved(Busy):
    """The VM was changed, or deleted, while it was about to start."""

    code = "vm_changed_meanwhile"
    remedy = "Look at the VM again, then start it once more."


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a VM starts with, as it was while this node had its lease."""

    domain: Edited  # as the hooks want it
    lease: VmLease | None
    version: int | None  # of the lease, then
    memory: PurePath | None  # that the guest goes on with


class Starter:
    """Starts VMs, one after the other or several at once."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        register: VmRegister,
        observer: Observer,
        files: VmFiles,
        volumes: Volumes,
        clock: Clock,
        config: Config,
        host: Callable[[], NodeFacts],
        pauser: Pauser,
        hooks: Hooks,
    ) -> None:
        self._hypervisor = hypervisor
        self._register = register
        self._observer = observer
        self._files = files
        self._volumes = volumes
        self._clock = clock
        self._config = config
        self._host = host
        self._pauser = pauser
        self._hooks = hooks

    def start(
        self,
        vm_id: VmId,
        progress: Progress,
        correlation_id: CorrelationId | None,
        *,
        is_paused: bool,
        discard_memory: bool = False,
    ) -> None:
        """Start a VM that is down; VmRunsElsewhere, and what disks and QEMU say."""
        started = self._clock.monotonic()
        wanted = Wanted.PAUSED if is_paused else Wanted.UP
        progress.step(10, "starting QEMU")
        asked = Sight(Seen.START_ASKED, wanted=wanted, correlation_id=correlation_id)
        entry = self._apply(vm_id, asked)
        try:
            with self._pauser.turn(vm_id):
                ready = self._prepare(entry.vm, progress, is_paused, discard_memory)
                is_still = is_paused or ready.memory is not None
                try:
                    self._create_domain(entry.vm, ready, is_paused=is_still)
                except (Conflict, Failed):  # there is no QEMU that could need it
                    if is_still and ready.lease is not None:
                        self._give_back(vm_id)
                    raise
                if ready.version is not None and not is_still:
                    self._check_lease(entry.vm, ready.version + 1)
                if ready.memory is not None:
                    self._observer.look(vm_id)
                    self._outlast(vm_id, partial(self._use, entry.vm), progress)
                if is_still and not is_paused:
                    self._pauser.resume(vm_id, correlation_id)
        except Error as error:
            self._take_failed_start(vm_id, error, correlation_id)
            raise
        progress.step(90, "looking at it")
        self._observer.look(vm_id)
        if not is_paused:
            self.note_lease(entry.vm)
        self.tell(entry.vm, is_restored=ready.memory is not None)
        elapsed_s = self._clock.monotonic() - started
        log.info("VM %s (%s) started in %.3f s", vm_id, entry.vm.spec.name, elapsed_s)

    def tell(self, vm: Vm, *, is_restored: bool = False) -> None:
        """Let hooks know of a VM that runs here now."""
        vm_id = vm.spec.vm_id
        dehibernated = HookPoint.AFTER_VM_DEHIBERNATE
        point = dehibernated if is_restored else HookPoint.AFTER_VM_START
        self._hooks.tell(point, vm, lambda: self._hypervisor.observe(vm_id).xml)
        if not is_restored:
            describe = partial(self._files.read_domain, vm_id)
            created = HookPoint.AFTER_DEVICE_CREATE
            device_hooks.tell(self._hooks, created, vm, describe)

    def describe(self, vm: Vm) -> str:
        """Return the domain that a VM would be started as, without its hooks."""
        lease, uefi = self._volumes.lease(vm), vm.spec.firmware is Firmware.UEFI
        variables = self._files.own_variables(vm.spec.vm_id) if uefi else None
        return self._build(vm, open_all(self._volumes, vm.spec), lease, variables)

    def go_on(
        self, entry: VmEntry, progress: Progress, correlation_id: CorrelationId | None
    ) -> None:
        """Resume a guest whose start was cut short after its memory was restored.

        One that runs already is left as it is.
        """
        vm_id = entry.vm.spec.vm_id
        is_held = entry.run.state is VmState.PAUSED and entry.vm.wanted is Wanted.UP
        if is_held and entry.vm.memory is not None:
            resume = partial(self._pauser.resume, vm_id, correlation_id)
            self._outlast(vm_id, resume, progress)

    def discard(self, entry: VmEntry, progress: Progress) -> None:
        """Let a suspended VM boot when it is started next; VmRunsElsewhere."""
        vm_id = entry.vm.spec.vm_id
        with self._pauser.turn(vm_id):
            vm = self._volumes.find(vm_id)
            if vm is None or vm.memory is None:
                return
            is_leased = self._volumes.lease(vm) is not None
            version = self._park(vm, progress) if is_leased else None
            try:
                self._volumes.memories.use(vm, version)
            finally:
                self._give_back(vm_id)

    def note_lease(self, vm: Vm) -> None:
        """Keep which version of its lease a VM runs under, if that can be read."""
        try:
            if self._volumes.lease(vm) is None:
                return
            record = self._volumes.read_lease(vm)
        except Error as error:
            log.info("VM %s: lease not read: %s", vm.spec.vm_id, error)
            return  # the next round of the watch does
        if record.is_here and not record.is_free:
            sight = Sight(Seen.LEASED, lease_version=record.version)
            self._register.apply(vm.spec.vm_id, sight)

    def _prepare(
        self, vm: Vm, progress: Progress, is_paused: bool, discards_memory: bool
    ) -> _Ready:
        """Make sure that the VM runs nowhere, and has its files here."""
        vm_id, lease = vm.spec.vm_id, self._volumes.lease(vm)
        version = self._park(vm, progress) if lease is not None else None
        try:
            self._check_newest(vm)
            variables = self._find_variables(vm, version)
            memory = self._memory(vm, version, discards_memory)
            opened = open_all(self._volumes, vm.spec)
            opened = disk_hooks.prepare_all(self._hooks, vm, opened)
            built = self._build(vm, opened, lease, variables)
            self._files.keep_domain(vm_id, built)
            domain = self._edit(vm, built, is_restored=memory is not None)
            if domain.edits:
                self._files.keep_domain(vm_id, domain.text)
            ready = _Ready(domain, lease, version, memory)
            is_paused |= memory is not None
            if is_paused and version is not None:
                # libvirt takes it when the guest goes on.
                self._apply(vm_id, Sight(Seen.LEASED, lease_version=version))
        except Error:
            self._give_back(vm_id)
            raise
        if not is_paused:
            self._volumes.unpark(vm_id)
        return ready

    def _find_variables(self, vm: Vm, version: int | None) -> Path | None:
        """Return where the VM's UEFI variables lie; None: it starts by BIOS. NoUefi."""
        if vm.spec.firmware is not Firmware.UEFI:
            return None
        files.check_uefi()
        vm_id = vm.spec.vm_id
        first = partial(self._files.first_variables, vm_id)
        beside = self._volumes.variables(vm, version, first)
        return self._files.variables(vm_id, Path(beside))

    def _memory(
        self, vm: Vm, version: int | None, discards_memory: bool
    ) -> PurePath | None:
        """Return what a suspended VM goes on with; None: its guest boots."""
        if vm.memory is None:
            return None
        memories = self._volumes.memories
        mark = memories.look(vm)
        if mark is MemoryMark.SAVED and not discards_memory:
            return memories.path(vm)
        if mark is MemoryMark.BLANK and vm.memory.is_saved and not discards_memory:
            raise MemoryMissing(
                f"the memory of VM {vm.spec.name} is not in disk {vm.memory.disk_id}",
                vm_id=vm.spec.vm_id,
                disk_id=vm.memory.disk_id,
            )
        memories.use(vm, version)  # the guest boots: it must not go on there later
        return None

    def _use(self, vm: Vm) -> None:
        """Let nobody go on with the memory of a guest that was restored."""
        self._volumes.memories.use(vm, self._pauser.keep(vm.spec.vm_id))

    def _outlast(
        self, vm_id: VmId, act: Callable[[], None], progress: Progress
    ) -> None:
        """Let a guest that was restored go on, however long its storage fails.

        Nobody else goes on with its memory, and a forced stop keeps that. Cancelled.
        """
        while True:
            try:
                return act()
            except (Busy, Conflict, Unavailable) as error:
                # The storage process may have been killed, and its leases with it.
                may_pass = not isinstance(error, Conflict) or error.code == STALE_LEASE
                if not may_pass or not self._register.is_active(vm_id):
                    raise
                log.info("VM %s does not go on yet: %s", vm_id, error)
                progress.step(50, f"waits: {error}")
            progress.pause(_STORAGE_AGAIN_S)

    def _park(self, vm: Vm, progress: Progress) -> int:
        deadline = self._clock.monotonic() + _LEASE_WAIT_S
        while True:
            try:
                return self._volumes.park(vm, None)
            except Busy:
                if self._clock.monotonic() >= deadline:
                    raise
            progress.pause(_AGAIN_S)

    def _give_back(self, vm_id: VmId) -> None:
        try:
            self._volumes.unpark(vm_id)
        except Error as error:
            log.info("VM %s: its lease is given back later: %s", vm_id, error)

    def _check_newest(self, vm: Vm) -> None:
        """Refuse a definition that another one has followed; DefinitionMoved."""
        stored = self._volumes.find(vm.spec.vm_id)
        if stored is None or stored.generation != vm.generation:
            raise DefinitionMoved(
                f"VM {vm.spec.name} was changed meanwhile", vm_id=vm.spec.vm_id
            )

    def _check_lease(self, vm: Vm, wanted: int) -> None:
        """Let nothing run that has not the version after ours; LeaseNotTaken.

        VmRunsElsewhere: somebody had the lease in between.
        """
        vm_id = vm.spec.vm_id
        try:
            version = self._volumes.read_lease(vm).version
        except (Busy, Unavailable) as error:
            log.warning("VM %s: has it its lease? %s", vm_id, error)
            version = wanted  # the watch asks again
        if version < wanted:
            detail = "libvirt did not take the lease of the VM"
        elif version > wanted:
            detail = "somebody had the lease of the VM while it was about to start"
        else:
            self._apply(vm_id, Sight(Seen.LEASED, lease_version=wanted))
            return
        end = VmEnd(EndCause.START_FAILED, rfc3339(self._clock.now()), detail)
        self._observer.foretell(vm_id, end)
        self._hypervisor.kill(vm_id)
        if version < wanted:
            raise LeaseNotTaken(detail, vm_id=vm_id)
        raise VmRunsElsewhere(detail, vm_id=vm_id)

    def _build(
        self,
        vm: Vm,
        opened: Mapping[DiskId, OpenVolume],
        lease: VmLease | None,
        variables: Path | None,
    ) -> str:
        """Return the domain that the VM is on this host."""
        host = self._host()
        context = domxml.Host(
            self._config.emulation == _EMULATE_ALWAYS or not host.kvm.is_usable,
            self._files.serial_log(vm.spec.vm_id),
            opened,
            lease,
            variables,
        )
        name, _ = domxml.domain_names(vm.spec)
        return domxml.build(vm, name, context)

    def _edit(self, vm: Vm, built: str, *, is_restored: bool) -> Edited:
        """Let hooks change the domain of a guest that boots; HookFailed.

        One that goes on is as it was: they may only forbid it.
        """
        if is_restored:
            self._hooks.ask(HookPoint.BEFORE_VM_DEHIBERNATE, vm, lambda: built)
            return Edited(built)
        cards = device_hooks.edit(self._hooks, vm, built)
        domain = self._hooks.edit(HookPoint.BEFORE_VM_START, vm, cards.text)
        return replace(domain, edits=(*cards.edits, *domain.edits))

    def _create_domain(self, vm: Vm, ready: _Ready, *, is_paused: bool) -> None:
        name, unique_name = domxml.domain_names(vm.spec)
        if ready.memory is not None:
            path = str(ready.memory)
            saved = self._hypervisor.saved_xml(path)
            fitted = restored_xml.fit(saved, ready.domain.text)
            self._hypervisor.restore(path, fitted)
            return
        try:
            self._create(ready.domain, vm, is_paused=is_paused)
        except DomainExists:
            if name == unique_name:
                raise
            log.info("libvirt has another domain %s: it is %s", name, unique_name)
            renamed = domxml.rename(ready.domain.text, unique_name)
            domain = replace(ready.domain, text=renamed)
            self._create(domain, vm, is_paused=is_paused)

    def _blame(
        self, vm: Vm, domain: Edited, error: HypervisorRefused
    ) -> HookEditRefused:
        """Return which hook's edit libvirt refuses first; or all that there are."""
        scripts = [script for script, _ in domain.edits]
        for script, xml in domain.edits:
            complaint = self._hypervisor.complaint(xml)
            if complaint:
                scripts, error_text = [script], complaint
                break
        else:
            error_text = str(error)
        return HookEditRefused(
            f"libvirt refuses VM {vm.spec.name} as {', '.join(scripts)} made it: "
            f"{error_text}",
            vm_id=vm.spec.vm_id,
            script=", ".join(scripts),
        )

    def _create(self, domain: Edited, vm: Vm, *, is_paused: bool) -> None:
        try:
            self._hypervisor.create(domain.text, is_paused=is_paused)
        except HypervisorRefused as error:
            if not domain.edits:
                raise
            raise self._blame(vm, domain, error) from error
        except DomainLeased as error:
            raise VmRunsElsewhere(
                f"another host was quicker to start VM {vm.spec.name}",
                vm_id=vm.spec.vm_id,
            ) from error

    def _take_failed_start(
        self, vm_id: VmId, error: Error, correlation_id: CorrelationId | None
    ) -> None:
        """Keep why a start failed, unless QEMU is there after all."""
        try:
            self._hypervisor.observe(vm_id)
        except DomainMissing:
            pass
        except Error as unknown:
            log.warning("VM %s: is it there? %s", vm_id, unknown)
            return  # the next look tells
        else:
            return
        end = VmEnd(EndCause.START_FAILED, rfc3339(self._clock.now()), str(error))
        self._apply(vm_id, Sight(Seen.ENDED, end=end, correlation_id=correlation_id))

    def _apply(self, vm_id: VmId, sight: Sight) -> VmEntry:
        return self._register.apply(vm_id, sight) or self._register.get(vm_id)
