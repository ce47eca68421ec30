"""Find the VMs that came with a storage domain and are none of this pool.

Our own definitions name another pool; oVirt's lie in its OVF_STORE. Of one VM the
higher generation is meant, and our own at the same: a tombstone as well, so that what
was deleted does not come back from an older OVF_STORE. What is damaged is told of, and
harms nothing else. What lies on an export storage domain waits there, too, whether or
not it is a VM here. Reads only. Source: docs/formats/storage-domain.md.
"""

import logging
import threading
from dataclasses import dataclass, field, replace
from typing import Final

from node.clock import Clock, rfc3339
from node.contract import templates
from node.contract.unregistered import Found, NotUnregistered
from node.errors import Error, Unavailable
from node.model.ids import DiskId, PoolId, StorageDomainId, VmId
from node.model.reason import Reason
from node.model.storage import ActualVolume
from node.model.unregistered import Source, Unregistered, UnregisteredVm
from node.model.vm import Disk, TemplateMark, Vm, VmMemory, VmSpec
from node.storage.disks.work import StorageDomainInactive
from node.storage.guard import Guard
from node.storage.ovf import definition, document, reading
from node.storage.ovf.document import DamagedOvf, OvfVm
from node.storage.ovf.store import OvfStore
from node.storage.pools import roster as rosters
from node.storage.pools.exported import Exported
from node.storage.pools.roster import Roster
from node.storage.pools.seat import Seat
from node.storage.spm import pool_rules
from node.storage.spm.vm_store import Foreign, Stored

log = logging.getLogger(__name__)

# Of one list: a request waits for it, and few of its kind are let in at a time.
# One that is asked for by its id is read however long that takes.
LOOK_S: Final = 8.0
# A list is good for so long, unless this node has changed a definition or the pool:
# it is made of all that lies there, and pages ask again and again.
KEPT_S: Final = 10.0
_DETAIL_MAX: Final = 400


class LookLate(Unavailable):
    """Not all that lies there was read in time."""

    code = "unregistered_vms_late"
    remedy = "See how slow the storage is; a VM whose id is known can be registered."


@dataclass(frozen=True, slots=True)
class _Known:
    """What decides which of the definitions on a storage domain are newcomers."""

    stored: Stored  # the pool's own
    foreign: Foreign
    is_complete: bool  # all of the pool's own were read

    def own(self) -> frozenset[str]:
        ours = {each.vm.spec.vm_id for each in self.stored.vms}
        return frozenset({*ours, *(each.vm_id for each in self.stored.problems)})

    def passed(self, vm_id: str) -> int:
        """Return the generation up to which an OVF document is old news."""
        lying = (
            each.vm.generation
            for each in self.foreign.vms
            if each.vm.spec.vm_id == vm_id
        )
        return max((self.foreign.deleted.get(vm_id, 0), *lying))


@dataclass(slots=True)
class _List:
    """What was told of a storage domain last; one looks there at a time."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    told: Unregistered = field(default_factory=Unregistered)
    key: tuple[int, int, int] | None = None  # what it depends on
    until: float = 0.0


class PoolNewcomers:
    """What came with the storage domains of this node's pools. Any thread may call."""

    def __init__(self, roster: Roster, guard: Guard, clock: Clock) -> None:
        self._roster = roster
        self._guard = guard
        self._clock = clock
        self._lock = threading.Lock()
        self._lists: dict[str, _List] = {}

    def lying(self, storage_domain_id: StorageDomainId) -> Unregistered:
        """Return what waits to be registered, by name. NotSpm.

        Of an export storage domain, all that lies there now.
        """
        seat = self._seat(storage_domain_id)
        if storage_domain_id in pool_rules.active_exports(seat.pool.map):
            return _list(*self._look(storage_domain_id))
        with self._lock:
            kept = self._lists.setdefault(storage_domain_id, _List())
        with kept.turn:
            number, now = seat.pool.spm.term().number, self._clock.monotonic()
            key = (number, seat.pool.map.generation, seat.vms.changes)
            if kept.key != key or now >= kept.until:
                kept.told = _list(*self._look(storage_domain_id))
                kept.key, kept.until = key, self._clock.monotonic() + KEPT_S
            return kept.told

    def find(self, storage_domain_id: StorageDomainId, vm_id: VmId) -> Found:
        found, _ = self._look(storage_domain_id, vm_id)
        for each in found:
            if each.vm.spec.vm_id == vm_id:
                return each
        raise NotUnregistered(
            f"VM {vm_id[:80]!a} does not wait on storage domain {storage_domain_id}",
            vm_id=ascii(vm_id[:80]),
        )

    def check_name(self, storage_domain_id: StorageDomainId, vm: Vm) -> None:
        stored = self._seat(storage_domain_id).vms.list()
        templates.check_name_free(vm, (each.vm for each in stored.vms))

    def _seat(self, storage_domain_id: str) -> Seat:
        seat = self._roster.seat_with(storage_domain_id)
        rosters.require_manager(seat)
        known = seat.pool.map
        used = {*pool_rules.active_data(known), *pool_rules.active_exports(known)}
        if storage_domain_id not in used:
            raise StorageDomainInactive(
                f"storage domain {storage_domain_id} is not active, or has no VMs",
                storage_domain_id=storage_domain_id,
            )
        return seat

    def _look(
        self, storage_domain_id: str, vm_id: VmId | None = None
    ) -> tuple[list[Found], list[Reason]]:
        """Return what lies there, of one VM or of all, and what cannot be read."""
        until = self._clock.monotonic() + LOOK_S
        seat = self._seat(storage_domain_id)
        if storage_domain_id in pool_rules.active_exports(seat.pool.map):
            return self._look_exported(seat, storage_domain_id, vm_id, until)
        stored, foreign = seat.vms.list(), seat.vms.foreign(storage_domain_id)
        known = _Known(stored, foreign, seat.vms.is_complete(stored))
        read = seat.ovf_stores.read(seat.pool.access(storage_domain_id))
        looked = _Look(seat, storage_domain_id, known, self._clock, until)
        for each in read.problems:
            looked.complain("ovf_store_damaged", "", each)
        for problem in foreign.problems:
            looked.complain("unregistered_vm_damaged", problem.vm_id, problem.error)
        looked.take_definitions(vm_id)
        looked.take_documents(read.store or OvfStore({}), vm_id)
        return looked.found, looked.problems

    def _look_exported(
        self, seat: Seat, storage_domain_id: str, wanted: VmId | None, until: float
    ) -> tuple[list[Found], list[Reason]]:
        exported = Exported(seat.pool.access(storage_domain_id), self._guard)
        found, problems = list[Found](), list[Reason]()
        for vm_id in exported.vm_ids():
            if wanted not in (None, vm_id):
                continue
            if wanted is None and self._clock.monotonic() > until:
                problems.append(_late(self._clock))
                break
            try:
                each = exported.find(vm_id, PoolId(seat.pool.pool_id), seat.catalog)
            except Unavailable:
                raise
            except Error as error:
                code = "unregistered_vm_damaged"
                problems.append(_reason(self._clock, code, vm_id, error))
                continue
            if each is not None:
                found.append(each)
        return found, problems


class _Look:
    """One look at one storage domain."""

    def __init__(
        self,
        seat: Seat,
        storage_domain_id: str,
        known: _Known,
        clock: Clock,
        until: float,
    ) -> None:
        """`until`, by the clock, a list ends."""
        self.found: list[Found] = []
        self.problems: list[Reason] = []
        self._seat = seat
        self._home = StorageDomainId(storage_domain_id)
        self._pool_id = PoolId(seat.pool.pool_id)
        self._known = known
        self._clock = clock
        self._until = until
        self._taken = frozenset(
            disk.disk_id for each in known.stored.vms for disk in each.vm.spec.disks
        )

    def complain(self, code: str, name: str, error: Error) -> None:
        self.problems.append(_reason(self._clock, code, name, error))

    def take_definitions(self, wanted: VmId | None) -> None:
        """Add our own definitions of another pool's VMs."""
        own, deleted = self._known.own(), self._known.foreign.deleted
        for each in self._known.foreign.vms:
            vm_id = each.vm.spec.vm_id
            if vm_id in own or wanted not in (None, vm_id):
                continue
            if deleted.get(vm_id, 0) >= each.vm.generation:
                continue
            missing = tuple(
                disk.disk_id for disk in each.vm.spec.disks if not self._has(disk)
            )
            spec = self._as_ours(each.vm.spec, missing)
            memory = self._memory(each.vm)
            vm = replace(each.vm, spec=spec, home=self._home, memory=memory)
            may_run = not self._has_lease(each.vm.spec)
            self._add(Found(vm, Source.DEFINITION, may_run, missing))

    def take_documents(self, store: OvfStore, wanted: VmId | None) -> None:
        """Add what an OVF_STORE tells, where our own files know nothing newer."""
        own, may_run = self._known.own(), store.not_down()
        for vm_id in sorted(store.documents):
            if vm_id in own or wanted not in (None, vm_id):
                continue
            if wanted is None and self._clock.monotonic() > self._until:
                self.problems.append(_late(self._clock))
                return
            try:
                ovf = reading.read(store.documents[vm_id])
                if ovf.vm_id != vm_id:
                    raise DamagedOvf(f"the document is that of VM {ovf.vm_id}")
            except DamagedOvf as error:
                self.complain("unregistered_vm_damaged", vm_id, error)
                continue
            if ovf.generation > self._known.passed(vm_id) and self._is_foreign(ovf):
                self._drop_older(vm_id)
                self._add(self._of_document(ovf, vm_id in may_run))

    def _of_document(self, ovf: OvfVm, may_run: bool) -> Found:
        active = document.active_disks(ovf)
        volumes = {each.disk_id: self._volumes(each.disk_id) for each in active}
        vm = definition.vm_of(ovf, volumes, self._pool_id, self._home)
        first = next((each.storage_domain_id for each in vm.spec.disks), None)
        vm = replace(vm, home=first or self._home)
        if ovf.is_template:
            vm = replace(vm, template=TemplateMark(), snapshots=(), snapshot_id=None)
        missing = definition.missing(ovf, volumes)
        return Found(vm, Source.OVF_STORE, may_run, missing)

    def _is_foreign(self, ovf: OvfVm) -> bool:
        """Tell whether a document is not that of a VM of this pool that is away."""
        names_us = any(each.pool_id == self._pool_id for each in ovf.disks)
        return self._known.is_complete or not names_us

    def _as_ours(self, spec: VmSpec, missing: tuple[DiskId, ...]) -> VmSpec:
        """Return what another pool's VM is in this one, without what stayed behind."""
        template_id = spec.template_id
        has_template = any(
            each.vm.template is not None and str(each.vm.spec.vm_id) == template_id
            for each in self._known.stored.vms
        )
        disks = (each for each in spec.disks if each.disk_id not in missing)
        return replace(
            spec,
            pool_id=self._pool_id,
            lease_domain_id=spec.lease_domain_id if self._has_lease(spec) else None,
            template_id=template_id if has_template else None,
            is_clone=spec.is_clone and has_template,
            disks=tuple(
                each if has_template else replace(each, from_disk_id=None)
                for each in disks
            ),
        )

    def _memory(self, vm: Vm) -> VmMemory | None:
        """Return where a suspended VM's memory lies, if that is within reach."""
        active = pool_rules.active_data(self._seat.pool.map)
        memory = vm.memory
        is_here = memory is not None and memory.storage_domain_id in active
        return memory if is_here else None

    def _has_lease(self, spec: VmSpec) -> bool:
        """Tell whether the storage domain of a VM's lease is within reach."""
        active = pool_rules.active_data(self._seat.pool.map)
        return spec.lease_domain_id is None or spec.lease_domain_id in active

    def _add(self, found: Found) -> None:
        """Add what is found, unless all its disks are some VM's: it was registered."""
        disks = {each.disk_id for each in found.vm.spec.disks}
        if not disks or not disks <= self._taken:
            self.found.append(found)

    def _drop_older(self, vm_id: VmId) -> None:
        self.found = [each for each in self.found if each.vm.spec.vm_id != vm_id]

    def _has(self, disk: Disk) -> bool:
        return any(
            each.storage_domain_id == disk.storage_domain_id
            for each in self._seat.catalog.find(disk.disk_id)
        )

    def _volumes(self, disk_id: DiskId) -> tuple[ActualVolume, ...]:
        """Return a disk's volumes, of this storage domain if there are others."""
        sights = self._seat.catalog.find(disk_id)
        for each in sorted(sights, key=lambda e: e.storage_domain_id != self._home):
            access = self._seat.pool.access(each.storage_domain_id)
            return self._seat.catalog.volumes(access, disk_id)
        return ()


def _reason(clock: Clock, code: str, name: str, error: Error) -> Reason:
    fields = {"name": name, "detail": str(error)[:_DETAIL_MAX]}
    return Reason(code, rfc3339(clock.now()), fields)


def _late(clock: Clock) -> Reason:
    late = LookLate(f"not all was read within {LOOK_S:g} s")
    return _reason(clock, LookLate.code, "", late)


def _list(found: list[Found], problems: list[Reason]) -> Unregistered:
    vms = sorted(map(_told, found), key=lambda each: each.spec.name)
    return Unregistered(tuple(vms), tuple(problems))


def _told(found: Found) -> UnregisteredVm:
    vm = found.vm
    return UnregisteredVm(
        vm.spec,
        found.source,
        vm.generation,
        vm.template is not None,
        found.may_run,
        len(vm.snapshots),
        found.missing_disks,
    )
