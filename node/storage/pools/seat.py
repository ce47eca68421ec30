"""Take part in one pool: follow its map, keep what it has within reach, manage it.

Each round, every 10 s and when something was reached: a storage domain that the map
has active is watched here from then on, one in maintenance is left and unmounted;
then this node plays its part in the choice of the manager. A local pool has nobody
to choose from: its node manages it at once. Nothing here waits for a storage that
hangs but its own threads.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from node.clock import rfc3339
from node.contract import definitions, snapshots
from node.contract.definitions import DiskGone, DiskMoved, Placing
from node.errors import Busy, Error, Failed, Unavailable
from node.model.ids import NodeId
from node.model.reason import Reason
from node.model.storage import (
    DomainState,
    PoolDomain,
    StorageDomain,
    StorageDomainDocument,
)
from node.model.vm import Vm
from node.storage import documents
from node.storage.aside import Aside
from node.storage.data.part import DataPart
from node.storage.disks.tasks import Named
from node.storage.disks.verbs import Disks
from node.storage.disks.work import DiskWork
from node.storage.domains.access import Access
from node.storage.domains.catalog import Catalog
from node.storage.formats import pool_map
from node.storage.formats.domain_meta import DomainClass
from node.storage.formats.pool_map import PoolMap
from node.storage.pools.ovf_stores import OvfStores
from node.storage.pools.wanted import WantedPool
from node.storage.pools.watch import Keeper, Watch, are_settled, poke_all
from node.storage.pools.world import World
from node.storage.spm import pool_rules, vm_leases
from node.storage.spm.candidacy import Candidacy, Self, Sight
from node.storage.spm.map_memory import PoolLost
from node.storage.spm.pool import Pool
from node.storage.spm.states import State
from node.storage.spm.term import Term
from node.storage.spm.vm_store import Stored, StoredVm, VmStore

log = logging.getLogger(__name__)

ROUND_S: Final = 10.0
# Definitions change through us alone while we manage; others may mend their files.
VMS_S: Final = 60.0
TIDY_S: Final = 3600.0
RETURN_S: Final = 60.0
LOOK_S: Final = 0.5
HURRY_S: Final = 0.05  # until it is known what this node is in the pool

# What a storage or its daemon may do again in a moment.
_PASSING: Final = (Unavailable, Busy, Failed)

Founding = Callable[["Seat"], None]


class RoundBroke(Failed):
    """A bug of ours ended a round."""

    code = "pool_round_broke"
    remedy = "The rounds go on. Report it with the log's traceback."


class Seat:
    """One node's part in one pool. Any thread may call."""

    def __init__(
        self, wanted: WantedPool, world: World, found: Founding | None = None
    ) -> None:
        """`found` makes the pool, if it is not there yet, before the first round."""
        self.wanted = wanted
        self.is_settled = False  # a round was done: what is told is true
        self.failure: Error | None = None  # of the last round
        self._failed_at = rfc3339(world.clock.now())
        self.stored = Stored()  # VMs' definitions, while this node manages
        self.has_read_vms = False  # since it manages the pool
        self._world = world
        self._found = found
        self._lock = threading.Lock()
        self._wanting = threading.Lock()
        self._following = threading.Lock()
        self._watches: dict[str, Watch] = {}
        self._resting: dict[str, StorageDomainDocument] = {}
        self._host_ids: Mapping[str, int] = {}
        self._visited: dict[str, int] = {}  # verbs at work, by storage domain
        self._aside = Aside()
        self._vms_at: float | None = None
        self._tidied_at = world.clock.monotonic()
        self._wake = threading.Event()
        self._is_stopped = False
        self._settles_at = world.clock.monotonic() + RETURN_S
        self._was_serving = self._was_told = False  # as of the last round
        self.pool = Pool(
            wanted.pool_id,
            world.node_id,
            world.guard,
            world.clock,
            local_folders=world.reach.local_folders,
            recover=self._recover,
            remember=self._remember,
            has_watchdog=world.has_watchdog,
            known=wanted.known,
            options=world.options,
        )
        self.vms = VmStore(self.pool, world.guard, world.clock)
        self.catalog = Catalog(world.guard, world.clock, self._leaves)
        who = (self.pool, world.guard, world.node_id, world.clock)
        self.data = DataPart(*who, lambda: self.sight.members)
        self.work = DiskWork(
            self.pool,
            world.node_id,
            world.guard,
            world.jobs,
            self.catalog,
            clock=world.clock,
            holder=self.holder,
            vm_of=world.vm_of,
            on_news=world.on_news,
            define=self._define,
            tell=world.tell,
            named_by=self._named_by,
            holding=world.holding,
            data=self.data,
        )
        self.disks = Disks(self.pool, self.work, self.catalog, world.clock)
        self.ovf_stores = OvfStores(
            *(self.pool, world.guard, world.clock, self.catalog),
            *(self.vms, self.disks, world.jobs),
        )
        self.candidacy = Candidacy(
            *(self.pool, world.guard, world.node_id, world.clock, self._describe),
            *(world.timing, self._aside.do),
        )
        self._thread = threading.Thread(
            target=self._run, name=f"pool-{wanted.pool_id[:8]}", daemon=True
        )

    def start(self) -> None:
        self.pool.spm.on_stale = self.poke
        self._thread.start()
        if not self.wanted.is_local:
            self.data.start()

    def stop(self, deadline_s: float) -> None:
        """Stop going round and looking; leases stay as they are."""
        self._is_stopped = True
        self._wake.set()
        self.data.stop(deadline_s)
        if self._thread.is_alive():
            self._thread.join(deadline_s)
        with self._lock:
            watches, self._watches = tuple(self._watches.values()), {}
        for watch in watches:
            watch.stop(0.0)

    def finish(self, deadline_s: float) -> None:
        """Stop, and wait for what was begun aside: it may be joining a lockspace."""
        self.stop(deadline_s)
        self.data.finish(deadline_s)
        self._aside.wait(deadline_s)

    def poke(self) -> None:
        """Go round now."""
        self._wake.set()

    # what is known

    @property
    def node_id(self) -> NodeId:
        return self._world.node_id

    @property
    def is_serving(self) -> bool:
        return self.pool.spm.state is State.SERVING

    @property
    def sight(self) -> Sight:
        return self.candidacy.sight

    def holder(self) -> NodeId | None:
        """Return who manages the pool, as far as this node knows."""
        if self.is_serving:
            return self._world.node_id
        holder = self.sight.holder
        return holder.node_id if holder is not None else None

    @property
    def is_joined(self) -> bool:
        """Tell whether this node is in the lockspace of the pool's master."""
        known = self.wanted.known
        return known is not None and self.host_id(known.master_id) is not None

    def trouble(self) -> Error | None:
        """Return what keeps this node out of the pool and will not pass by itself."""
        watches = self.watches().values()
        for watch in watches:
            if watch.trouble is not None and not isinstance(watch.trouble, _PASSING):
                return watch.trouble
        # All were reached, and none of them is this pool's.
        is_lost = isinstance(self.failure, PoolLost)
        has_reached_all = all(each.access is not None for each in watches)
        return self.failure if is_lost and has_reached_all else None

    def set_priority(self, priority: int) -> None:
        """Say how gladly this node manages the pool, from the next round on."""
        self._want(lambda before: replace(before, priority=priority))
        self.poke()

    def watches(self) -> Mapping[str, Watch]:
        with self._lock:
            return dict(self._watches)

    def resting(self) -> Mapping[str, StorageDomainDocument]:
        """Return the documents of storage domains in maintenance."""
        with self._lock:
            noted = dict(self._resting)
        # One that was detached meanwhile is no longer ours to tell of.
        return {key: each for key, each in noted.items() if self.has(key)}

    def host_id(self, storage_domain_id: str) -> int | None:
        return self._host_ids.get(storage_domain_id)

    def has(self, storage_domain_id: str) -> bool:
        """Tell whether a storage domain belongs to this pool."""
        known = self.wanted.known
        if known is None:
            told = self.wanted.domains
            return any(each.storage_domain_id == storage_domain_id for each in told)
        return pool_rules.find(known, storage_domain_id) is not None

    def ill(self) -> frozenset[str]:
        """Return the active storage domains that this node cannot use."""
        return frozenset(key for key, each in self.watches().items() if each.is_ill)

    @contextmanager
    def visiting(self, known: StorageDomain) -> Iterator[Access]:
        """Reach a storage domain for a verb, also one in maintenance.

        Raises what `Reach.open` raises.
        """
        key = known.storage_domain_id
        with self._lock:
            self._visited[key] = self._visited.get(key, 0) + 1
        reach, visits = self._world.reach, self._world.visits
        try:
            with visits.at(reach.place(known.connection)):
                yield reach.open(known)
        finally:
            with self._lock:
                self._visited[key] -= 1
            self.poke()

    def find(self, storage_domain_id: str) -> StorageDomain | None:
        """Return what is known of a storage domain of this pool."""
        for each in self.wanted.reachable():
            if each.storage_domain_id == storage_domain_id:
                return each
        return None

    def volume_in(self, snapshot_id: str, disk_id: str) -> str | None:
        """Return what a disk was at a whole snapshot; None: there is none.

        One that was taken a moment ago may have to be read first.
        """
        found = self.stored.volume_in(snapshot_id, disk_id)
        if found is None:
            self.stored = self.vms.list()
            found = self.stored.volume_in(snapshot_id, disk_id)
        return found

    def look_at_vms(self) -> None:
        """Read the definitions of VMs anew, aside."""
        self._vms_at = self._world.clock.monotonic()
        self._aside.do("vms", self._read_vms)

    # rounds

    def _run(self) -> None:
        said = ""
        while not self._is_stopped:
            self._wake.clear()
            try:
                self._go_round()
                self.failure, now = None, ""
            except Error as error:
                self.failure, now = error, f"{error.code}: {error}"
            except Exception as error:  # a bug must not end the rounds
                now = f"{type(error).__name__}: {error}"
                self.failure = RoundBroke(now)
                log.exception("a round of pool %s failed", self.pool.pool_id)
            if now != said:
                self._failed_at = rfc3339(self._world.clock.now())
                log.info("pool %s: %s", self.pool.pool_id, now or "well")
                said = now
            self._world.on_news()
            self._pause()

    def _pause(self) -> None:
        """Wait for the next round; see at once what became of manager and watches."""
        until, state = self._world.clock.monotonic() + ROUND_S, self.pool.spm.state
        while not self._wake.wait(LOOK_S if self.is_settled else HURRY_S):
            if not self._was_told and are_settled(self.watches()):
                return
            if self.pool.spm.state is not state:
                state = self.pool.spm.state
                self._world.on_news()
                if state is State.SERVING:
                    return
            if self._world.clock.monotonic() >= until:
                return

    def _go_round(self) -> None:
        if self._found is not None:
            self._found(self)
            self._found = None
        self.follow()
        # In this order: what settles after the look may be reached by then.
        is_told = self._was_told = are_settled(self.watches())
        is_late = self._world.clock.monotonic() >= self._settles_at
        if not self.pool.reached():
            self.is_settled |= is_told or is_late
            return
        if self.wanted.known is None:
            self.pool.refresh()
            self.follow()  # the map may know another way than the one we came
        if self.wanted.is_local:
            self._serve_alone()
        else:
            self.candidacy.attempt()
        if self.is_serving:
            self._look_after_content()
        if self.is_serving is not self._was_serving:
            # What lies there is read by the manager, and told by it alone.
            self._was_serving = self.is_serving
            poke_all(self.watches())
        # The manager of before a restart goes on as such, usually within a round.
        is_coming = not self.is_serving and self.pool.spm.is_coming()
        self.is_settled |= (is_told and not is_coming) or is_late

    def follow(self) -> None:
        """Watch what the map has active, and let go what rests."""
        with self._following:
            self._follow()
            self.is_settled |= self.is_serving

    def _follow(self) -> None:
        wanted = self.wanted
        reachable: dict[str, StorageDomain] = {
            each.storage_domain_id: each for each in wanted.reachable()
        }
        active = {k: each for k, each in reachable.items() if wanted.is_active(k)}
        for key, known in active.items():
            watch = self._watches.get(key)
            if watch is not None and watch.known.connection != known.connection:
                # A lockspace is never joined by two ways at once.
                self._unwatch(key)
                self.pool.disconnect(key)
                watch = None
            if watch is None and not self._is_stopped:
                self._watch(known)
        for key in set(self._watches) - set(active):
            self._unwatch(key)
        with self._lock:
            self._resting = {
                key: self._rest(known)
                for key, known in reachable.items()
                if key not in active
            }
        resting = {k: each for k, each in reachable.items() if k not in active}
        self._let_go(resting)

    def _watch(self, known: StorageDomain) -> None:
        key = known.storage_domain_id
        keeper = Keeper(self.pool.pool_id, lambda: self._entry(key), self._tend)
        world = self._world
        watch = Watch(
            known,
            keeper,
            world.reach,
            world.guard,
            world.clock,
            world.node,
            world.on_news,
        )
        with self._lock:
            self._watches[key] = watch
        watch.start()

    def _unwatch(self, storage_domain_id: str) -> None:
        with self._lock:
            watch = self._watches.pop(storage_domain_id)
        watch.stop(0.0)
        self.catalog.forget(storage_domain_id)

    def _let_go(self, resting: Mapping[str, StorageDomain]) -> None:
        """Unmount what rests, once its lockspace is left; see `leave_resting`."""
        joined = self.note_joined()
        reached = {each.storage_domain_id: each for each in self.pool.reached()}
        for key, known in resting.items():
            with self._lock:
                is_visited = bool(self._visited.get(key))
            if is_visited:
                continue
            if key in reached and self.pool.host_id(reached[key]) is None:
                self.pool.disconnect(key)
                self._aside.do(f"close {key}", partial(self._close, known))
            elif key in joined and key not in reached:
                # It came to rest while the agent was away.
                self._aside.do(f"open {key}", partial(self._open, known))

    def note_joined(self) -> frozenset[str]:
        """Know our host ids, and return the lockspaces that this host is in."""
        joined = {e.name: e.host_id for e in self._world.guard.lockspaces()}
        self._host_ids = {
            each.storage_domain_id: joined[each.lockspace.name]
            for each in self.pool.reached()
            if each.lockspace.name in joined
        }
        return frozenset(joined)

    def _close(self, known: StorageDomain) -> None:
        """Unmount what one storage domain lies on, unless it has use for others."""
        wanted, way, reach = self.wanted, known.connection, self._world.reach
        if any(
            each.connection == way and wanted.is_active(each.storage_domain_id)
            for each in wanted.reachable()
        ):
            return
        self._world.visits.close(reach.place(way), lambda: reach.close(way))

    def _open(self, known: StorageDomain) -> None:
        self.pool.connect(self._world.reach.open(known))

    def _rest(self, known: StorageDomain) -> StorageDomainDocument:
        before = self._resting.get(known.storage_domain_id)
        if before is not None:
            return replace(before, storage_domain=known)
        at = rfc3339(self._world.clock.now())
        state = DomainState.MAINTENANCE
        return StorageDomainDocument(known, self._world.node_id, state, at)

    def _tend(self, access: Access) -> None:
        """Join a storage domain that was reached; as manager, read what is on it."""
        key = access.storage_domain_id
        if all(each != access for each in self.pool.reached()):
            self.pool.connect(access)
            self.poke()
        entry = self._map_entry(key)
        if entry is None or entry.domain_class is not DomainClass.DATA:
            return
        host_id = self.pool.host_id(access)
        if host_id is None:
            self.pool.join(access)
            self.poke()
        self.note_joined()
        if self.is_serving:
            self.catalog.refresh(access)
            self._world.on_news()

    def _serve_alone(self) -> None:
        """Manage a local pool, which nobody else can."""
        spm = self.pool.spm
        if spm.state is State.SERVING and spm.check():
            self.pool.leave_resting()
        if spm.state is State.FREE:
            self.pool.refresh()
            spm.become()

    def _look_after_content(self) -> None:
        """As manager: know the VMs' definitions, and end what was left."""
        now = self._world.clock.monotonic()
        if self._vms_at is None or now - self._vms_at >= VMS_S:
            self.look_at_vms()
        if now - self._tidied_at >= TIDY_S:
            self._tidied_at = now
            self._aside.do("tidy", self.vms.tidy)
        self._aside.do("left", self.work.end_left)
        self._aside.do("ovf-stores", partial(self.ovf_stores.keep, self.stored))

    def _read_vms(self) -> None:
        self.stored = self.vms.list()
        self.has_read_vms = True
        self._world.on_news()

    def _define(self, text: str) -> None:
        """Apply a change to a definition, and know of it at once."""
        defined = definitions.read(text)
        if isinstance(defined, Placing):
            self.vms.place(defined)
            self._note(defined.places, defined.home, defined.vm)
            return
        if isinstance(defined, DiskMoved | DiskGone):
            stored = self.vms.follow(defined, self._prepare_home)
            if stored is not None:
                self._note(defined.vm_id, stored.home, stored.vm)
                self._world.on_defined(stored.vm)
            return
        vm = self.vms.change(defined)
        known = {each.vm.spec.vm_id: each.home for each in self.stored.vms}
        if vm is not None and vm.spec.vm_id in known:
            self._note(vm.spec.vm_id, known[vm.spec.vm_id], vm)

    def _prepare_home(self, vm: Vm, home: str) -> None:
        """Make the lease of a VM whose definition moves, before anybody asks for it."""
        if self.wanted.is_local or vm.spec.lease_domain_id is not None:
            return
        with self.pool.spm.work() as term:
            access = self.pool.access(home)
            vm_leases.add(self._world.guard, access, term, vm.spec.vm_id)

    def _note(self, vm_id: str, home: str, vm: Vm | None) -> None:
        others = (e for e in self.stored.vms if e.vm.spec.vm_id != vm_id)
        changed = (StoredVm(vm, home),) if vm is not None else ()
        self.stored = replace(self.stored, vms=(*others, *changed))

    # what the parts ask

    def _recover(self, term: Term) -> None:
        self.work.recover(term)
        self._vms_at, self.has_read_vms = None, False
        self._world.on_news()

    def _remember(self, known: PoolMap) -> None:
        try:
            self._want(
                lambda before: replace(
                    before, known=known, name=known.name or before.name
                )
            )
        except Error as error:
            # The map is on the storage; only the way back after a boot is older.
            log.warning("the map of %s is not remembered: %s", known.pool_id, error)
        self.poke()
        poke_all(self.watches())

    def _want(self, change: Callable[[WantedPool], WantedPool]) -> None:
        with self._wanting:
            wanted = self.wanted = change(self.wanted)
            self._world.memory.change(lambda before: before.with_known(wanted))

    def _describe(self) -> Self:
        world = self._world
        return Self(
            world.node_name,
            world.hears_leader(),
            self.wanted.priority,
            has_watchdog=world.has_watchdog(),
            ill_domains=self.ill(),
        )

    def _leaves(self, image_id: str) -> tuple[str, ...]:
        """Return which volumes of an image VM definitions name."""
        return tuple(
            volume_id
            for each in self.stored.vms
            for disk_id, volume_id in snapshots.leaves(each.vm)
            if disk_id == image_id
        )

    def _named_by(self, disk_id: str, storage_domain_id: str) -> tuple[Named, ...]:
        """Return the definitions that name a disk, as they lie there now."""
        stored = self.vms.list()
        for problem in stored.problems:
            if not problem.vm_id:  # who lies there has perhaps a disk elsewhere
                raise problem.error
        return tuple(
            Named(each.vm, each.home)
            for each in stored.vms
            if definitions.names(each.vm, disk_id, storage_domain_id)
        )

    def _map_entry(self, storage_domain_id: str) -> pool_map.PoolDomain | None:
        known = self.wanted.known
        return pool_rules.find(known, storage_domain_id) if known is not None else None

    def _entry(self, storage_domain_id: str) -> PoolDomain | None:
        entry = self._map_entry(storage_domain_id)
        return documents.pool_domain(entry) if entry is not None else None

    def reason(self) -> Reason | None:
        """Return why this node has no part in the choice of the manager, or which."""
        if self.failure is None:
            return self.sight.reason
        is_bug = isinstance(self.failure, RoundBroke)
        code = self.failure.code if is_bug else "spm_round_failed"
        fields = {"pool": self.pool.pool_id, "detail": str(self.failure)}
        return Reason(code, self._failed_at, fields)
