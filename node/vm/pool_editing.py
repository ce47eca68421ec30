"""Create, change and delete VMs whose definition lies on a pool.

The pool's manager writes the definition, each change by a compare-and-swap on its
generation. What is on the storage counts, and comes first: whatever stops in between
is done again from there.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from node.clock import Clock, rfc3339
from node.contract import definitions, snapshots
from node.contract.hooks import Hooks
from node.contract.volumes import VmRunsElsewhere, Volumes, check_awake
from node.errors import Busy, Conflict, Error, Failed
from node.jobs import Progress
from node.model.hooks import HookPoint
from node.model.host import Image, NodeFacts
from node.model.ids import CorrelationId, DiskId, VmId
from node.model.properties import CustomProperty
from node.model.vm import Disk, Vm, VmEntry, VmRun, VmSpec, VmState
from node.system.hypervisor import DeviceMissing, Hypervisor
from node.vm import definition, device_hooks, disk_hooks, domxml, states
from node.vm.devices import disk as disk_device
from node.vm.register import VmRegister

log = logging.getLogger(__name__)

_TURN_S: Final = 5.0  # its caller waits for ten
_TURN_OF_JOB_S: Final = 30.0  # who creates a VM is done by then
# A definition is left alone so long: whoever changed it may start the VM next.
STRAY_S: Final = 60.0
_UNPLUG_LOOKS: Final = 30  # a guest that is up lets go within a second or two
_LOOK_S: Final = 1.0


class PoolVmBusy(Busy):
    """Another VM of a pool is being created."""

    code = "pool_vm_busy"
    remedy = "Try again in a moment."


class DiskAttached(Conflict):
    """The VM has a disk with that id already, and it is another one."""

    code = "disk_attached"
    remedy = "Detach the disk first, or look at the VM again."


class DiskNotHot(Conflict):
    """The disk's bus is part of the chip set: nothing is plugged in while it runs."""

    code = "disk_not_hot"
    remedy = "Shut the VM down first, or use a disk on virtio or virtio_scsi."


class DiskBusUsed(Conflict):
    """The guest has the disk on its bus, and would lose it."""

    code = "disk_bus_used"
    remedy = "Shut the VM down first."


class DiskNotAttached(Conflict):
    """The VM has no such disk on a pool."""

    code = "disk_not_attached"
    remedy = "Look at the VM again."


class NotStored(Conflict):
    """The VM's definition is not on its pool."""

    code = "vm_not_on_pool"
    remedy = "Check whether the VM was deleted, or its storage domain is not active."


class DiskInSnapshot(Conflict):
    """A state of the disk is kept for the VM."""

    code = "disk_in_snapshot"
    remedy = "Delete the VM's snapshots that have the disk first."


class RunEnded(Conflict):
    """The run of the VM under which a disk has grown is over."""

    code = "vm_run_ended"
    remedy = "Enlarge the disk again: it is done as for a VM that is down."


class DiskHeld(Failed):
    """The guest does not let the disk go."""

    code = "disk_held"
    remedy = "Unmount it in the guest, or stop the VM; then detach it again."


class PoolEditor:
    """Changes what lies on the storage, then what this node knows."""

    def __init__(
        self,
        hypervisor: Hypervisor,
        register: VmRegister,
        volumes: Volumes,
        clock: Clock,
        host: Callable[[], NodeFacts],
        hooks: Hooks,
    ) -> None:
        self._hypervisor = hypervisor
        self._hooks = hooks
        self._register = register
        self._volumes = volumes
        self._clock = clock
        self._host = host
        self._changing = threading.Lock()
        # Definitions that are not where their disks are, and since when.
        self._strays: Mapping[tuple[VmId, int], float] = {}

    def create(
        self,
        asked: VmSpec,
        images: Mapping[str, Image],
        correlation_id: CorrelationId | None,
    ) -> VmEntry:
        """Define a VM on its pool; one that was made meanwhile stays as it is.

        VmDiffers, DiskTaken, NotSpm, PoolVmBusy, and as `create`.
        """
        with self._turn(_TURN_S):
            return self._create(asked, images, correlation_id)

    def take_in(self, vm: Vm, lying: Vm, correlation_id: CorrelationId | None) -> None:
        """Make a VM, or a template, of a definition that came with storage.

        `lying` is what came: under its id and by its lease the disks may be in use.
        NameTaken, MacTaken, DiskTaken, VmGone, NotSpm; VmRunsElsewhere. Idempotent.
        """
        with self._turn(_TURN_OF_JOB_S):
            self.check_new(vm)
            if self._volumes.find(vm.spec.vm_id) is None:
                # Its disks are there, and stay: none is made in the place of one.
                with (
                    self._volumes.holding_any(lying) as version,
                    self._volumes.naming(vm, vm.spec.disks),
                ):
                    if vm.template is None:
                        self._volumes.make(vm)
                    self._discard_memory(vm, lying, version)
                    self._volumes.write(vm, 0)
            if vm.template is None and self._register.find(vm.spec.vm_id) is None:
                now = rfc3339(self._clock.now())
                node_id = self._host().node_id
                run = VmRun(vm.spec.vm_id, node_id, VmState.DOWN, now)
                self._register.add(VmEntry(vm, run), correlation_id)

    def _discard_memory(self, vm: Vm, lying: Vm, version: int | None) -> None:
        """Let nobody go on with what a VM that came kept; it boots.

        `version` is of the lease that it came with; None: it came without.
        """
        if lying.memory is None:
            return
        log.info("VM %s came suspended: it boots", lying.spec.vm_id)
        if version is not None:
            self._volumes.memories.use(lying, version)
            return
        with self._volumes.holding_any(vm) as own:
            self._volumes.memories.use(replace(vm, memory=lying.memory), own)

    def check_new(self, vm: Vm) -> None:
        """Refuse a name or an address of another VM; NameTaken, MacTaken."""
        if vm.template is None:
            others = (each.vm for each in self._register.list())
            definition.check_beside(vm.spec, others)

    def knows(self, vm: Vm) -> bool:
        """Tell whether an id is that of a VM or template, or of one that was."""
        vm_id = vm.spec.vm_id
        return self.has(vm_id) or self._register.was_deleted(vm_id)

    def has(self, vm_id: VmId) -> bool:
        """Tell whether a VM is one of this node's pools."""
        return self._volumes.find(vm_id) is not None

    def attach(self, entry: VmEntry, disk: Disk) -> None:
        """Give a VM a disk that exists: for good, then at once if it runs here.

        One that it has on another bus changes to that, if the VM is down: DiskBusUsed.
        What the definition does not name is not plugged in: who runs a VM of another
        manager's pool is asked after that. DiskAttached, DiskTaken, NotSpm. Idempotent.
        """
        definition.check_pool_disk(disk)
        with self._turn(_TURN_OF_JOB_S):
            vm = self._read(entry)
            if not _has_disk(vm, disk):
                check_awake(self._volumes, vm)
                wanted = _with_disk(vm, disk)
                definition.check_buses(wanted.spec)
                with self._kept_down(entry, vm, disk), self._volumes.naming(vm, [disk]):
                    vm = self._keep(vm, wanted)
        if states.is_active(entry.run.state):
            self._plug(vm, find_disk(vm.spec, disk.disk_id))

    def detach(
        self,
        entry: VmEntry,
        disk_id: DiskId,
        progress: Progress,
        lease_version: int | None = None,
    ) -> None:
        """Take a disk away from a VM; its data stay. Idempotent.

        Who runs a VM of another manager's pool takes it from the guest; the manager
        is asked after that, and told by `lease_version` which run has let the disk go.
        DiskHeld, DiskInSnapshot, NotSpm; VmRunsElsewhere: another run has it.
        """
        spec, is_here = entry.vm.spec, states.is_active(entry.run.state)
        if is_here:
            _check_in_no_snapshot(entry.vm, disk_id)
            for disk in entry.vm.spec.disks:
                if disk.disk_id == disk_id and not disk.interface.is_hot:
                    raise _not_hot(entry.vm, disk)
            self._unplug(entry.vm, disk_id, progress)
        if is_here and spec.pool_id not in self._volumes.managed():
            log.info("VM %s: the manager writes its definition", spec.vm_id)
            return
        with self._turn(_TURN_OF_JOB_S):
            vm = self._read(entry)
            _check_in_no_snapshot(vm, disk_id)
            rest = tuple(each for each in vm.spec.disks if each.disk_id != disk_id)
            if rest == vm.spec.disks:
                return
            without = replace(_changed(vm, rest), addresses=_slots(vm, disk_id))
            self._volumes.check_manager(vm)
            if is_here or self._has_let_go(vm, lease_version):
                self._keep(vm, without)
                return
            with self._volumes.holding(vm):  # nobody starts it with the disk
                self._keep(vm, self._at_home(without))

    @contextlib.contextmanager
    def _kept_down(self, entry: VmEntry, vm: Vm, disk: Disk) -> Iterator[None]:
        """Let nobody start a VM that must be down; DiskNotHot, DiskBusUsed."""
        has_it = any(each.disk_id == disk.disk_id for each in vm.spec.disks)
        if disk.interface.is_hot and not has_it:
            yield
            return
        refuse = _bus_used if has_it else _not_hot
        if states.is_active(entry.run.state):
            raise refuse(vm, disk)
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(self._volumes.holding(vm))
            except VmRunsElsewhere as error:
                raise refuse(vm, disk) from error
            yield

    def _at_home(self, vm: Vm) -> Vm:
        """Return a definition that goes with the disks that are left, if it can.

        Its lease is there first. While a guest has that, it stays where it is.
        """
        assert vm.home is not None, "a VM of a pool has a home"
        moved = replace(vm, home=definitions.home_of(vm, vm.home))
        if moved.home != vm.home:
            try:
                self._volumes.make_lease(moved)
            except Error as error:
                log.info("VM %s stays on %s: %s", vm.spec.vm_id, vm.home, error)
                return vm
        return moved

    def tend(self, vms: Iterable[Vm]) -> None:
        """Bring definitions, as the manager, to where the disks are that are left.

        A guest's lease has kept them where the last disk there was taken from it.
        """
        now, known = self._clock.monotonic(), self._strays
        strays = {
            (vm.spec.vm_id, vm.generation): vm.home
            for vm in vms
            if vm.home is not None
            and definitions.home_of(vm, vm.home) != vm.home
            and self._is_at_rest(vm)
        }
        self._strays = {key: known.get(key, now) for key in strays}
        for (vm_id, generation), home in strays.items():
            if now - known.get((vm_id, generation), now) >= STRAY_S:
                try:
                    self._bring_home(vm_id)
                except Error as error:
                    log.debug("VM %s stays on %s: %s", vm_id, home, error)

    def _bring_home(self, vm_id: VmId) -> None:
        """Write a definition where its disks are; PoolVmBusy: not now."""
        with self._turn(0.0):
            vm = self._read(self._register.get(vm_id))
            with self._volumes.holding(vm):
                moved = self._at_home(replace(vm, generation=vm.generation + 1))
                if moved.home != vm.home:
                    self._keep(vm, moved)
                    log.info("VM %s is at home on %s", vm_id, moved.home)

    def _is_at_rest(self, vm: Vm) -> bool:
        """Tell whether a VM runs nowhere, as far as can be seen."""
        entry = self._register.find(vm.spec.vm_id)
        if entry is None or states.is_active(entry.run.state):
            return False
        try:
            has_lease = self._volumes.lease(vm) is not None
            return not (has_lease and self._volumes.read_lease(vm).is_held)
        except Error:
            return False  # its storage is away

    def _has_let_go(self, vm: Vm, lease_version: int | None) -> bool:
        """Tell whether the run elsewhere that has done its part still has the lease."""
        if lease_version is None or self._volumes.lease(vm) is None:
            return False
        record = self._volumes.read_lease(vm)
        return record.is_held and record.version == lease_version

    def resize(
        self,
        entry: VmEntry,
        disk_id: DiskId,
        size_bytes: int,
        lease_version: int | None = None,
    ) -> None:
        """Let a disk grow under a guest that runs: QEMU first, then the record.

        Who runs a VM of another manager's pool does the first; the manager is asked
        after that, and told by `lease_version` which run it was. What stops in between
        leaves a disk that is larger than its metadata say; asked again, or by a
        repair, they follow. DiskNotAttached, NotSpm; RunEnded.
        """
        vm_id, pool_id = entry.vm.spec.vm_id, entry.vm.spec.pool_id
        if states.is_active(entry.run.state):
            find_disk(entry.vm.spec, disk_id)
            alias = f"ua-{disk_device.alias(disk_id)}"
            self._hypervisor.resize_disk(vm_id, alias, size_bytes)
            if pool_id not in self._volumes.managed():
                log.info("VM %s: the manager writes its definition", vm_id)
                return
        elif not self._has_let_go(entry.vm, lease_version):
            raise RunEnded(
                f"VM {entry.vm.spec.name} does not run any more", vm_id=vm_id
            )
        with self._turn(_TURN_OF_JOB_S):
            vm = self._read(entry)
            self._record(vm, find_disk(vm.spec, disk_id), size_bytes)

    def set_properties(
        self,
        entry: VmEntry,
        device_id: str | None,
        properties: tuple[CustomProperty, ...],
    ) -> None:
        """Write down custom properties, which a guest gets at its next start.

        None: the VM's own. NoSuchDevice, NotSpm. Idempotent.
        """
        with self._turn(_TURN_OF_JOB_S):
            vm = self._read(entry)
            spec = definition.with_properties(vm.spec, device_id, properties)
            if spec != vm.spec:
                self._keep(vm, replace(vm, spec=spec, generation=vm.generation + 1))

    def _record(self, vm: Vm, disk: Disk, size_bytes: int) -> None:
        """Write down that a disk has grown; DiskBusy."""
        self._volumes.record_size(disk, size_bytes)
        grown = replace(disk, size_bytes=size_bytes)
        disks = tuple(
            grown if each.disk_id == disk.disk_id else each for each in vm.spec.disks
        )
        if disks != vm.spec.disks:
            self._keep(vm, _changed(vm, disks))

    def _create(
        self,
        asked: VmSpec,
        images: Mapping[str, Image],
        correlation_id: CorrelationId | None,
    ) -> VmEntry:
        made = self._register.find(asked.vm_id)
        if made is not None and definition.is_same(asked, made.vm.spec):
            return made
        started = self._clock.monotonic()
        host, now = self._host(), rfc3339(self._clock.now())
        spec = definition.pin(asked, host, images)
        definition.check_alone(spec, host)
        definition.check_images(spec, images)
        definition.check_beside(spec, (each.vm for each in self._register.list()))
        home = self._volumes.home(spec)
        vm = self._volumes.find(spec.vm_id, spec.pool_id)
        if vm is None:
            addresses = domxml.assign_addresses(spec)
            vm = Vm(spec, 1, now, addresses=addresses, home=home)
            self._put(vm)
        elif not definition.is_same(asked, vm.spec):
            raise definition.VmDiffers(
                f"VM {vm.spec.name} has that id and is defined otherwise",
                vm_id=spec.vm_id,
            )
        run = VmRun(spec.vm_id, host.node_id, VmState.DOWN, now)
        self._register.add(VmEntry(vm, run), correlation_id)
        elapsed_s = self._clock.monotonic() - started
        log.info("VM %s (%s) created in %.3f s", spec.vm_id, spec.name, elapsed_s)
        return self._register.get(spec.vm_id)

    def _put(self, vm: Vm) -> None:
        """Make what a new VM lacks, then its definition."""
        self._volumes.make(vm)
        with self._volumes.naming(vm, vm.spec.disks):
            self._volumes.write(vm, 0)

    @contextlib.contextmanager
    def _turn(self, timeout_s: float) -> Iterator[None]:
        """Let one at a time say which VM has which disk; PoolVmBusy."""
        if not self._changing.acquire(timeout=timeout_s):
            raise PoolVmBusy("another VM is being created, or changed")
        try:
            yield
        finally:
            self._changing.release()

    def _read(self, entry: VmEntry) -> Vm:
        """Return a VM's definition as its pool has it; NotStored."""
        vm_id = entry.vm.spec.vm_id
        stored = self._volumes.find(vm_id)
        if stored is None:
            raise NotStored(
                f"VM {entry.vm.spec.name} is on no active storage domain", vm_id=vm_id
            )
        self._register.adopt(stored, entry.run)
        return stored

    def _keep(self, before: Vm, wanted: Vm) -> Vm:
        """Write a definition, as the manager; NotSpm."""
        self._volumes.write(wanted, before.generation)
        entry = self._register.get(before.spec.vm_id)
        return self._register.adopt(wanted, entry.run).vm

    def _plug(self, vm: Vm, disk: Disk) -> None:
        domain = self._hypervisor.observe(vm.spec.vm_id)
        if disk_device.alias(disk.disk_id) in domxml.disk_aliases(domain.xml):
            return  # before a restart of the agent
        own, opened = disk.custom_properties, self._volumes.open(disk)
        opened = disk_hooks.prepare(self._hooks, vm, disk, opened)
        *others, device = domxml.plug(vm, disk, opened, domain.xml)
        edited = self._hooks.edit(HookPoint.BEFORE_DISK_HOTPLUG, vm, device, own)
        for each in (*others, edited.text):
            self._hypervisor.attach(vm.spec.vm_id, each)
        log.info("VM %s: disk %s plugged in", vm.spec.vm_id, disk.disk_id)
        self._hooks.tell(HookPoint.AFTER_DISK_HOTPLUG, vm, lambda: edited.text, own)

    def _unplug(self, vm: Vm, disk_id: DiskId, progress: Progress) -> None:
        vm_id, alias = vm.spec.vm_id, disk_device.alias(disk_id)
        if not self._has(vm_id, alias):
            return
        named = (each for each in vm.spec.disks if each.disk_id == disk_id)
        own = next((each.custom_properties for each in named), ())
        device = device_hooks.of(self._hypervisor.observe(vm_id).xml, alias)
        self._hooks.ask(HookPoint.BEFORE_DISK_HOTUNPLUG, vm, lambda: device, own)
        with contextlib.suppress(DeviceMissing):
            self._hypervisor.detach(vm_id, f"ua-{alias}")
        for _ in range(_UNPLUG_LOOKS):
            if not self._has(vm_id, alias):
                log.info("VM %s: disk %s unplugged", vm_id, disk_id)
                point = HookPoint.AFTER_DISK_HOTUNPLUG
                self._hooks.tell(point, vm, lambda: device, own)
                return
            progress.pause(_LOOK_S)
        raise DiskHeld(f"the guest does not let disk {disk_id} go", disk_id=disk_id)

    def _has(self, vm_id: VmId, alias: str) -> bool:
        return alias in domxml.disk_aliases(self._hypervisor.observe(vm_id).xml)


def find_disk(spec: VmSpec, disk_id: DiskId) -> Disk:
    """Return a VM's disk on a pool; DiskNotAttached."""
    for disk in spec.disks:
        if disk.disk_id == disk_id:
            return disk
    raise DiskNotAttached(
        f"VM {spec.name} has no disk {disk_id} on a pool", disk_id=disk_id
    )


def _has_disk(vm: Vm, disk: Disk) -> bool:
    """Tell whether a VM has a disk on its bus; DiskAttached: it has it otherwise."""
    for each in vm.spec.disks:
        if each.disk_id != disk.disk_id:
            continue
        if _how(each) != _how(disk):
            raise DiskAttached(
                f"VM {vm.spec.name} has another disk {disk.disk_id}",
                disk_id=disk.disk_id,
            )
        return each.interface is disk.interface
    return False


def _how(disk: Disk) -> tuple[object, ...]:
    """Return what of a disk cannot be changed by attaching it once more."""
    modes = (disk.is_bootable, disk.is_read_only, disk.is_shared)
    return (disk.storage_domain_id, *modes)


def _with_disk(vm: Vm, disk: Disk) -> Vm:
    """Return the next generation with a disk, in the place of one on another bus."""
    if all(each.disk_id != disk.disk_id for each in vm.spec.disks):
        return _changed(vm, (*vm.spec.disks, disk))
    _check_in_no_snapshot(vm, disk.disk_id)
    disks = tuple(
        replace(each, interface=disk.interface)
        if each.disk_id == disk.disk_id
        else each
        for each in vm.spec.disks
    )
    return _changed(replace(vm, addresses=_slots(vm, disk.disk_id)), disks)


def _slots(vm: Vm, disk_id: DiskId) -> tuple[tuple[str, int], ...]:
    """Return the addresses of all but one disk."""
    gone = disk_device.alias(disk_id)
    return tuple(each for each in vm.addresses if not each[0].endswith(gone))


def _bus_used(vm: Vm, disk: Disk) -> DiskBusUsed:
    return DiskBusUsed(
        f"VM {vm.spec.name} runs: its disk {disk.name} stays on its bus",
        disk_id=disk.disk_id,
    )


def _not_hot(vm: Vm, disk: Disk) -> DiskNotHot:
    return DiskNotHot(
        f"VM {vm.spec.name} runs: no {disk.interface.value} disk comes or goes",
        disk_id=disk.disk_id,
    )


def _check_in_no_snapshot(vm: Vm, disk_id: DiskId) -> None:
    if any(disk_id == each for each, _ in snapshots.taken(vm)):
        raise DiskInSnapshot(
            f"snapshots of VM {vm.spec.name} have disk {disk_id}", disk_id=disk_id
        )


def check_growth(spec: VmSpec, disk_id: DiskId, size_bytes: int) -> None:
    """Refuse what a disk cannot become: BadVm, DiskNotAttached."""
    disk = find_disk(spec, disk_id)
    definition.check_pool_disk(replace(disk, size_bytes=size_bytes))
    if size_bytes < disk.size_bytes:
        raise definition.BadVm(
            f"size_bytes must be at least {disk.size_bytes}: disks only grow",
            field="size_bytes",
        )


def _changed(vm: Vm, disks: tuple[Disk, ...]) -> Vm:
    """Return the next generation of a definition."""
    spec = replace(vm.spec, disks=disks)
    return replace(
        vm,
        spec=spec,
        generation=vm.generation + 1,
        addresses=domxml.assign_addresses(spec, vm.addresses),
    )
