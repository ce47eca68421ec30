"""Have and look at the leases of VMs, for this node and its storage process.

A lease is parked (`docs/formats/vm-leases.md`), or kept for as long as a job changes
what a VM starts with: then nobody here parks or gives it back, and no node starts the
VM. None is kept of a VM that runs here, or is about to. Who asks whether somebody has
one only looks: to take it for that would refuse a start elsewhere for no reason, and
raise its version under a guest that goes on.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from node.contract.volumes import (
    LeaseMovedOn,
    LeaseRecord,
    NodeJoining,
    VmHasLease,
    VmRunsElsewhere,
)
from node.errors import Conflict, Error
from node.model.ids import NodeId, VmId
from node.model.vm import Vm
from node.storage.domains import host_ids, lease_record
from node.storage.domains.access import Access
from node.storage.formats import layout
from node.storage.guard import Guard
from node.storage.process.protocol import ResourceAt
from node.storage.spm import vm_leases
from node.storage.spm.pool import Pool
from node.system.leases import Host, LeaseHeld, LeaseMoved, Liveness, NotHeld

log = logging.getLogger(__name__)

PROBE_S: Final = 3.0
_GONE: Final = frozenset({Liveness.DEAD, Liveness.FREE})


def refuse_nothing() -> None:
    """Find nothing wrong with a VM that a job keeps the lease of."""


def _none_runs(_vm_id: VmId) -> bool:
    """Know of no VM that runs here."""
    return False


class VmLeasing:
    """The leases of the VMs on this node's pools. Any thread may call."""

    def __init__(self, pools: Callable[[], Iterable[Pool]], guard: Guard) -> None:
        """`pools` are always current."""
        self._pools = pools
        self._guard = guard
        self._lock = threading.Lock()
        # One turn at each VM: what is known of its lease holds until it is taken, or
        # given back. Each wait ends: the storage process answers within its deadline.
        self._turns: dict[VmId, threading.Lock] = {}
        self._kept: set[VmId] = set()
        # Which VMs run here, or are about to; known before they are parked.
        self.is_active: Callable[[VmId], bool] = _none_runs
        # Where leases lie, by storage domain and VM.
        self._places: dict[tuple[str, str], ResourceAt] = {}

    def place(self, pool: Pool, vm: Vm) -> ResourceAt:
        """Return where a VM's lease lies; VmLeaseMissing."""
        return self._place_of(self.access(pool, vm), vm.spec.vm_id)

    def access(self, pool: Pool, vm: Vm) -> Access:
        """Return the storage domain of a VM's lease."""
        return pool.access(vm.spec.lease_domain_id or vm.home or pool.map.master_id)

    def exists(self, pool: Pool, vm: Vm) -> bool:
        try:
            self.place(pool, vm)
        except vm_leases.VmLeaseMissing:
            return False
        return True

    def forget(self, access: Access, vm_id: VmId) -> None:
        """Hear that a lease is no more where it was."""
        self._places.pop((access.storage_domain_id, vm_id), None)

    def read(self, pool: Pool, vm: Vm) -> LeaseRecord:
        """Read what lies in a lease, and whether who had it last has it now."""
        return self.read_at(self.access(pool, vm), vm.spec.vm_id)

    def read_at(self, access: Access, vm_id: VmId) -> LeaseRecord:
        """As `read`, wherever the VM's definition is."""
        own, before = (access.lockspace.name, vm_id), self._own_leases()
        place, found = self._look(access, vm_id)
        hosts = self._hosts(place.lockspace)
        ours = self._own_host(place.lockspace, hosts)
        is_here = (found.host_id, found.generation) == ours
        is_elsewhere = not is_here and _may_live(found, hosts)
        is_held = not found.is_free and (is_here or is_elsewhere)
        return LeaseRecord(
            found.version,
            self._name(access, found.host_id) if is_held and is_elsewhere else None,
            is_here,
            found.is_free,
            is_held,
            # It may have been given back since it was read, or not be ours before.
            is_here and is_held and (own in before or own in self._own_leases()),
        )

    def is_free(self, pool: Pool, vm: Vm) -> bool:
        """Tell whether a lease was given back: who else is in the pool is not asked."""
        _, found = self._look(self.access(pool, vm), vm.spec.vm_id)
        return found.is_free

    def park(self, pool: Pool, vm: Vm, version: int | None) -> int:
        """Have a lease for this node, and return its version. See `volumes`."""
        with self._turn(vm.spec.vm_id):
            if vm.spec.vm_id in self._kept:
                raise _kept(vm)
            return self._acquire(pool, vm, version)

    def unpark(self, vm_id: VmId) -> None:
        with self._turn(vm_id):
            if vm_id not in self._kept:
                self.give_back(vm_id)

    def parked(self) -> frozenset[VmId]:
        names = {vm_id for _, vm_id in self._own_leases()}
        return frozenset(map(VmId, names)) - self._kept

    @contextlib.contextmanager
    def keeping(
        self, pool: Pool, vm: Vm, check: Callable[[], None] = refuse_nothing
    ) -> Iterator[int]:
        """Have a lease for a job, and yield its version; VmHasLease, VmRunsElsewhere.

        What `check` refuses has not begun: the lease is given back at once. What a
        later error leaves, whoever looks after parked leases gives back.
        """
        vm_id = vm.spec.vm_id
        with self._turn(vm_id):
            if vm_id in self._kept:
                raise _kept(vm)
            if self.is_active(vm_id):  # parked or not: it is its guest's
                raise VmHasLease(
                    f"VM {vm.spec.name} runs on this node, or starts", vm_id=vm_id
                )
            self._kept.add(vm_id)
        try:
            version = self._acquire(pool, vm, None)
            try:
                check()
            except Error:
                with contextlib.suppress(Error):
                    self.give_back(vm_id)
                raise
            yield version
            self.give_back(vm_id)
        finally:
            self._kept.discard(vm_id)

    def give_back(self, vm_id: VmId) -> None:
        """Give back what this node itself has of a VM. Idempotent."""
        where = {lockspace for lockspace, each in self._own_leases() if each == vm_id}
        for pool in self._pools():
            for access in pool.reached():
                if access.lockspace.name in where:
                    self._guard.release(self._place_of(access, vm_id))

    def has_lost(self, pool: Pool, vm: Vm) -> bool:
        """Tell whether this node has lost the lockspace of a VM's lease."""
        lockspace = self.access(pool, vm).lockspace.name
        if all(each.name != lockspace for each in self._guard.lockspaces()):
            return True
        return self._own_host(lockspace, self._hosts(lockspace)) is None

    def _turn(self, vm_id: VmId) -> threading.Lock:
        with self._lock:
            return self._turns.setdefault(vm_id, threading.Lock())

    def _acquire(self, pool: Pool, vm: Vm, version: int | None) -> int:
        try:
            return self._acquire_joined(pool, vm, version)
        except Conflict as error:
            if error.code != NotHeld.code:
                raise
            storage_domain_id = self.access(pool, vm).storage_domain_id
            raise NodeJoining(
                f"this node is still joining storage domain {storage_domain_id}, "
                f"which has the lease of VM {vm.spec.name}",
                vm_id=vm.spec.vm_id,
                storage_domain_id=storage_domain_id,
            ) from error

    def _acquire_joined(self, pool: Pool, vm: Vm, version: int | None) -> int:
        place, found = self._look(self.access(pool, vm), vm.spec.vm_id)
        if not found.is_free:
            record = self.read(pool, vm)
            if record.is_held and not record.is_here:
                # sanlock would wait for minutes to say so
                raise _elsewhere(vm, record)
        try:
            return self._guard.acquire(place, version)
        except Conflict as error:
            # It has travelled: its code says what it is.
            if error.code == LeaseHeld.code:
                raise self._held(pool, vm) from error
            if error.code != LeaseMoved.code or version is None:
                raise
            record = self.read(pool, vm)
            if not record.is_here or record.version != version + 1:
                raise LeaseMovedOn(
                    f"the lease of VM {vm.spec.name} has version {record.version}, "
                    f"not {version}",
                    vm_id=vm.spec.vm_id,
                ) from error
        # libvirt has had it here, and the agent stopped before it was written down.
        return self._guard.acquire(place, record.version)

    def _held(self, pool: Pool, vm: Vm) -> Error:
        """Return how to say who has a lease: QEMU here, or another node."""
        record = self.read(pool, vm)
        if not record.is_here:
            return _elsewhere(vm, record)
        return VmHasLease(f"QEMU of VM {vm.spec.name} has its lease, here")

    def _look(
        self, access: Access, vm_id: VmId
    ) -> tuple[ResourceAt, lease_record.LeaseRecord]:
        """Return where a lease lies, and what: a VM may have been given another."""
        place = self._place_of(access, vm_id)
        found = None
        with contextlib.suppress(lease_record.LeaseDamaged):
            found = vm_leases.read(self._guard, access, place)
        if found is None or found.resource != vm_id:
            self.forget(access, vm_id)
            place = self._place_of(access, vm_id)
            found = vm_leases.read(self._guard, access, place)
        return place, found

    def _place_of(self, access: Access, vm_id: VmId) -> ResourceAt:
        key = (access.storage_domain_id, vm_id)
        known = self._places.get(key)
        if known is None:
            known = vm_leases.find(self._guard, access, vm_id)
            self._places[key] = known
        return known

    def _own_leases(self) -> frozenset[tuple[str, str]]:
        """Return the leases of VMs that this node has itself: lockspaces and names.

        Also one that was to be given back when sanlock did not say that it is.
        """
        leases = self._guard.leases()
        held = {(each.lockspace, each.resource) for each in leases.held}
        failed = {(each.lockspace, each.resource) for each in leases.unsettled}
        return frozenset(each for each in held | failed if layout.is_id(each[1]))

    def _hosts(self, lockspace: str) -> Mapping[int, Host]:
        return {each.host_id: each for each in self._guard.hosts(lockspace)}

    def _own_host(
        self, lockspace: str, hosts: Mapping[int, Host]
    ) -> tuple[int, int] | None:
        """Return our host id and its generation; None: we lose that, or have."""
        for joined in self._guard.lockspaces():
            host = hosts.get(joined.host_id)
            is_live = host is not None and host.liveness is Liveness.LIVE
            if joined.name == lockspace and host is not None and is_live:
                return host.host_id, host.generation
        return None

    def _name(self, access: Access, host_id: int) -> NodeId | None:
        """Return the node that has a host id; None: nobody, or it cannot be told."""
        files = access.files(self._guard, deadline_s=PROBE_S)
        at = access.lockspace
        try:
            hosts = host_ids.read(files, at.path, at.name, at.sector_bytes)
        except Error as error:
            log.info("host %d of %s: %s", host_id, at.name, error)
            return None
        names = {each.host_id: each.host_name for each in hosts}
        return NodeId(names[host_id]) if names.get(host_id) else None


def _may_live(found: lease_record.LeaseRecord, hosts: Mapping[int, Host]) -> bool:
    """Tell whether another host that had a lease last may be alive."""
    holder = hosts.get(found.host_id)
    if holder is None or holder.generation != found.generation:
        return False
    return holder.liveness not in _GONE


def _kept(vm: Vm) -> VmHasLease:
    return VmHasLease(
        f"a job on this node changes VM {vm.spec.name}, or its disks",
        vm_id=vm.spec.vm_id,
    )


def _elsewhere(vm: Vm, record: LeaseRecord) -> VmRunsElsewhere:
    return VmRunsElsewhere(
        f"VM {vm.spec.name} runs on node {record.node_id or '(unknown)'}, or did until "
        "it fell silent; or that node changes its disks",
        vm_id=vm.spec.vm_id,
        node_id=record.node_id,
    )
