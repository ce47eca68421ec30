"""Keep what this node knows of VMs on pools in step with their storage.

A node has such a VM in its register while it runs there, and while the node manages
the pool: the manager answers for all definitions. So the manager takes on what lies
on the storage, and forgets what was deleted. Any other node forgets a VM that is down
there once its definition is gone, or another node has had its lease since; until then
it tells how the last run ended.

    runs, and unknown    its definition is taken from the pool
    paused               its lease is kept for it, and it goes on when it may (pausing)
    runs                 the version of its lease is known, and looked at once;
                         its disks have the limits that the storage says
    down, lease parked   the lease is given back

What needs the storage for one VM is done aside: one that hangs delays no other.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Final

from node.clock import Clock, rfc3339
from node.contract.volumes import PoolUnknown, PoolVms, VmHasLease, Volumes
from node.errors import Error, NotFound, Unavailable
from node.model.ids import NodeId, PoolId, VmId
from node.model.vm import Vm, VmEntry, VmRun, VmState
from node.vm import pausing, states
from node.vm.limiting import Limiter
from node.vm.observer import Observer
from node.vm.pausing import Pauser
from node.vm.register import VmRegister
from node.vm.starting import Starter

log = logging.getLogger(__name__)

# A paused guest waits for it, and nothing is read for VMs that run.
ROUND_S: Final = 2.0
# Reads every definition on the pool, so not more often.
DEFINITIONS_S: Final = 30.0
# Who limits a disk looks whether that helps; each reads a small file.
LIMITS_S: Final = 10.0
# A lease that is left takes a slot, and does no harm.
LEASES_S: Final = 3600.0
# What takes longer goes on aside, and is not begun again meanwhile.
PATIENCE_S: Final = 2.0
# Each waits for a storage or a QEMU that hangs, for ten seconds or some more.
HANDS_MAX: Final = 64
# Pauses before looks at a lease that somebody on this node is giving back.
_SETTLES_S: Final = (0.0, 0.05, 0.2, 0.5, 1.0)


class DefinitionsIncomplete(Unavailable):
    """Some definitions of a pool's VMs could not be read yet."""

    code = "vm_definitions_incomplete"
    remedy = "Bring all storage domains of the pool back, or deactivate what is dead."


class _Hand:
    """A thread that does one thing; what went wrong with it is kept."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self.wrong = ""
        self._act = act
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_busy(self) -> bool:
        return self._thread.is_alive()

    def wait(self, timeout_s: float) -> None:
        self._thread.join(max(0.0, timeout_s))

    def _run(self) -> None:
        try:
            self._act()
        except Error as error:
            self.wrong = f"{error.code}: {error}"
        except Exception as bug:
            self.wrong = f"{type(bug).__name__}: {bug}"
            log.exception("%s failed", self._thread.name)


class PoolVmsWatch:
    """One thread that goes round, with a hand for each VM that needs it."""

    def __init__(
        self,
        register: VmRegister,
        volumes: Volumes,
        observer: Observer,
        pauser: Pauser,
        starter: Starter,
        clock: Clock,
        limiter: Limiter,
        node_id: Callable[[], NodeId],
    ) -> None:
        self._register = register
        self._limiter = limiter
        self._volumes = volumes
        self._observer = observer
        self._pauser = pauser
        self._starter = starter
        self._clock = clock
        self._node_id = node_id
        self._read_at = -DEFINITIONS_S
        self._limited_at = self._tidied_at = clock.monotonic()
        # Pools that this node manages, and whose definitions it has read since.
        self._known: frozenset[PoolId] = frozenset()
        # Of those: once without a gap. What is new since, this node has written.
        self._whole: frozenset[PoolId] = frozenset()
        self._said: Mapping[str, str] = {}  # what went wrong, once each
        self._hands: dict[str, _Hand] = {}
        # The version of the lease that a guest which runs was seen to have.
        self._sure: Mapping[VmId, int] = {}
        self._wake = threading.Event()
        self._is_closed = False
        # Who ends what guests' nodes have done, or kept from being done.
        self.tenders: tuple[Callable[[Iterable[Vm]], None], ...] = ()
        self._thread = threading.Thread(target=self._loop, name="pool-vms", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._is_closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._wait(tuple(self._hands.values()))

    def poke(self) -> None:
        """Go round now: the lease of a VM that was just paused is free."""
        self._wake.set()

    def adopt(self, vm: Vm) -> VmEntry:
        """Take on a definition; what runs of it here stays as it is."""
        now = rfc3339(self._clock.now())
        down = VmRun(vm.spec.vm_id, self._node_id(), VmState.DOWN, now)
        return self._register.adopt(vm, down)

    def go_round(self) -> None:
        """Look after all VMs of pools once."""
        entries = self._register.list()
        known = {entry.vm.spec.vm_id for entry in entries}
        self._sure = {k: each for k, each in self._sure.items() if k in known}
        needy = [entry.vm.spec.vm_id for entry in entries if self._needs(entry)]
        begun = [self._begin(each, self._attend, each) for each in needy]
        self._wait([each for each in begun if each is not None])
        begun = [
            self._begin("strays", self._adopt_strays),
            self._begin("leases", self._unpark_ended),
        ]
        now, managed = self._clock.monotonic(), self._volumes.managed()
        self._known &= managed
        self._whole &= managed
        if now - self._read_at >= DEFINITIONS_S or managed - self._known:
            self._read_at = now
            begun.append(self._begin("definitions", self.read_definitions))
        if now - self._tidied_at >= LEASES_S:
            self._tidied_at = now
            begun.append(self._begin("old leases", self._volumes.tidy_leases))
        if now - self._limited_at >= LIMITS_S:
            self._limited_at = now
            for place in sorted(self._limiter.places()):
                key = f"limits of disks on {place}"
                begun.append(self._begin(key, self._limiter.tend, place))
        self._wait([each for each in begun if each is not None])
        self._say()

    def user_of(self, disk_id: str) -> VmId | None:
        """Return the VM that runs with a disk, here or on another node of the pool.

        DefinitionsIncomplete, if it may be one that this node has never seen.
        """
        if self._volumes.managed() - self._known:
            self.read_definitions()
        for entry in self._users(frozenset({disk_id})):
            is_active = self._register.is_active(entry.vm.spec.vm_id)
            if is_active or self._may_run_elsewhere(entry.vm):
                return entry.vm.spec.vm_id
        pool_id = self._volumes.pool_of(disk_id)
        if pool_id in self._volumes.managed() - self._whole:
            raise DefinitionsIncomplete(
                f"who runs with disk {disk_id} cannot be told: not all definitions of "
                f"VMs on pool {pool_id} were read",
                disk_id=disk_id,
                pool_id=pool_id,
            )
        return None

    def read_definitions(self) -> None:
        """Bring the register in step with what lies on the storage."""
        before = self._register.list()  # what is created meanwhile may not be read
        managed: dict[PoolId, PoolVms] = {}
        for pool in self._volumes.definitions():
            managed[pool.pool_id] = pool
            for vm in pool.vms:
                self.adopt(vm)
        self._known = frozenset(managed)
        whole = (each.pool_id for each in managed.values() if each.is_complete)
        self._whole = (self._whole & self._known).union(whole)
        own = self._volumes.own()
        own_id = own.pool_id if own is not None else None  # no other node's matter
        for entry in before:
            pool_id = entry.vm.spec.pool_id
            if states.is_active(entry.run.state):
                continue
            if pool_id not in managed:
                is_ours = pool_id == own_id or not self._is_over(entry)
            else:
                of_pool = managed[pool_id]
                known = {vm.spec.vm_id for vm in of_pool.vms}
                is_ours = entry.vm.spec.vm_id in known or not of_pool.is_complete
            if not is_ours:
                self._forget(entry)
        # Tending removes disks, which asks who uses them: that is known by now.
        vms = tuple(vm for pool in managed.values() for vm in pool.vms)
        for tend in self.tenders:
            tend(vms)

    @contextmanager
    def holding(
        self, disk_ids: frozenset[str], may_sleep: bool = False
    ) -> Iterator[Callable[[str], None]]:
        """Let no node start a VM that has one of the disks meanwhile.

        Yields how to let a VM go before the end. VmRunsElsewhere, VmHasLease, and
        VmSuspended unless it `may_sleep`.
        """
        hold = self._volumes.holding_any if may_sleep else self._volumes.holding
        if self._volumes.managed() - self._known:
            self.read_definitions()
        held: dict[str, ExitStack] = {}

        def let_go(vm_id: str) -> None:
            try:
                held.pop(vm_id, ExitStack()).close()
            except Error as error:
                log.warning("VM %s: its lease is given back later: %s", vm_id, error)

        with ExitStack() as stack:
            for entry in self._users(disk_ids):
                if self._volumes.find(entry.vm.spec.vm_id) is None:
                    continue  # deleted at this moment: its disks go after it
                own = stack.enter_context(ExitStack())
                own.enter_context(hold(entry.vm))
                held[entry.vm.spec.vm_id] = own
            yield let_go

    def _users(self, disk_ids: frozenset[str]) -> list[VmEntry]:
        """Return the VMs that have one of the disks, in one order for all."""
        found = (
            entry
            for entry in self._register.list()
            if any(disk.disk_id in disk_ids for disk in entry.vm.spec.disks)
        )
        return sorted(found, key=lambda entry: entry.vm.spec.vm_id)

    def _may_run_elsewhere(self, vm: Vm) -> bool:
        """As `_runs_elsewhere`, for a VM that may be deleted at this moment."""
        try:
            return self._runs_elsewhere(vm)
        except PoolUnknown:
            raise
        except NotFound:
            # Its lease goes after its definition: without both, nobody runs it.
            if self._volumes.find(vm.spec.vm_id) is not None:
                raise
            return False

    def _runs_elsewhere(self, vm: Vm) -> bool:
        """Look who has the VM's lease; VmHasLease, if a QEMU keeps it that is no run.

        One that has just ended, or a job, gives it back in a moment.

        It is not taken for that: see `node.storage.pools.leasing`.
        """
        if self._volumes.lease(vm) is None:
            return False
        for pause_s in _SETTLES_S:
            time.sleep(pause_s)
            is_free = self._volumes.is_given_back(vm)
            entry = self._register.find(vm.spec.vm_id)
            if entry is not None and states.is_active(entry.run.state):
                return True  # here, as of now
            if is_free:
                return False
            record = self._volumes.read_lease(vm)
            if not record.is_held or not record.is_here or record.is_kept:
                return record.is_held and not record.is_here
        raise VmHasLease(
            f"a QEMU of VM {vm.spec.name} has its lease, here", vm_id=vm.spec.vm_id
        )

    def _needs(self, entry: VmEntry) -> bool:
        """Tell whether a VM has to be attended to."""
        run = entry.run
        if run.state not in pausing.RUN:
            return run.state is VmState.PAUSED
        return self._sure.get(run.vm_id) != (run.lease_version or 0)

    def _attend(self, vm_id: VmId) -> None:
        run = self._register.get(vm_id).run
        if run.state is VmState.PAUSED:
            self._pauser.attend(vm_id)
            return
        if run.lease_version is None:
            self._starter.note_lease(self._register.get(vm_id).vm)
        if self._pauser.confirm(vm_id):
            version = self._register.get(vm_id).run.lease_version
            self._sure = {**self._sure, vm_id: version or 0}

    def _adopt_strays(self) -> None:
        """Take VMs back that run on although this node's memory was lost."""
        for vm_id in self._observer.strays():
            vm = self._volumes.find(vm_id)
            if vm is not None and self._register.find(vm_id) is None:
                log.info("VM %s runs here: its definition is on its pool", vm_id)
                self.adopt(vm)
                self._observer.look(vm_id)

    def _unpark_ended(self) -> None:
        for vm_id in self._volumes.parked():
            if self._is_done_with(vm_id):
                with self._pauser.turn(vm_id):
                    if self._is_done_with(vm_id):  # still: no start has begun
                        self._volumes.unpark(vm_id)

    def _is_done_with(self, vm_id: VmId) -> bool:
        """Tell whether a VM is down, and no memory waits to be marked as saved."""
        entry = self._register.find(vm_id)
        is_down = entry is None or entry.run.state is VmState.DOWN
        return is_down and not self._register.has_job(vm_id, "vm_suspend")

    def _is_over(self, entry: VmEntry) -> bool:
        """Tell whether a VM that is down here is another node's matter by now."""
        if self._volumes.find(entry.vm.spec.vm_id) is None:
            return True
        if entry.run.end is None:
            return True
        if self._volumes.lease(entry.vm) is None:
            return False
        record = self._volumes.read_lease(entry.vm)
        had = entry.run.lease_version
        return not record.is_here and had is not None and record.version > had

    def _forget(self, entry: VmEntry) -> None:
        vm_id = entry.vm.spec.vm_id
        if self._register.has_job(vm_id):
            return  # it is not done yet
        if self._register.forget(vm_id, lambda newest: newest == entry):
            log.info("VM %s (%s) is not here any more", vm_id, entry.vm.spec.name)

    def _loop(self) -> None:
        while not self._is_closed:
            self._wake.wait(ROUND_S)
            self._wake.clear()
            try:
                self.go_round()
            except Exception:  # a bug must not end the rounds
                log.exception("a round failed")

    def _begin(
        self, key: str, act: Callable[..., None], *arguments: object
    ) -> _Hand | None:
        """Do one thing aside; None: it is at it since an earlier round."""
        before = self._hands.get(key)
        if before is not None and before.is_busy:
            return None
        if sum(each.is_busy for each in self._hands.values()) >= HANDS_MAX:
            return None
        hand = _Hand(f"pool-vms-{key}", partial(act, *arguments))
        self._hands[key] = hand
        return hand

    def _wait(self, hands: Iterable[_Hand]) -> None:
        """Wait a little for what was begun."""
        until = time.monotonic() + PATIENCE_S
        for each in hands:
            each.wait(until - time.monotonic())

    def _say(self) -> None:
        """Tell what went wrong, once."""
        busy = {k: each for k, each in self._hands.items() if each.is_busy}
        ended = {k: each for k, each in self._hands.items() if k not in busy}
        wrong = {key: each.wrong for key, each in ended.items() if each.wrong}
        late = {k: text for k, text in self._said.items() if k in busy}
        for key, text in wrong.items():
            if self._said.get(key) != text:
                log.warning("VMs of pools: %s: %s", key, text)
        self._said = {**late, **wrong}
        self._hands = busy
