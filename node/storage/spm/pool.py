"""Keep a pool: which storage domains it has, which is the master, who may change that.

The pool's map lies on every active data storage domain, and the newest wins. Only
the manager (SPM) changes it, in an order that a crash may cut anywhere:

    claim a storage domain    its metadata name the pool, then the map names it
    let one go                the map forgets it, then its metadata do
    move the master           the new master's map first: that is the move

A change is written under the leases with which it began, on the map that it knows:
one that outlived its management is refused. Each verb may be asked twice.
Source: DESIGN section 5, docs/formats/spm.md.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from node.clock import Clock
from node.errors import Conflict, Error, Unavailable
from node.model.ids import NodeId
from node.storage.domains import access as accesses
from node.storage.domains import host_ids
from node.storage.domains.access import LOOK_S, Access, LocalFolders
from node.storage.formats.domain_meta import DomainClass, DomainMeta, DomainRole
from node.storage.formats.pool_map import PoolDomainState, PoolMap
from node.storage.guard import Guard
from node.storage.process.holdings import StaleLease
from node.storage.process.protocol import Need
from node.storage.spm import pool_files, pool_rules, structure_lease
from node.storage.spm.map_memory import MapMemory
from node.storage.spm.states import State
from node.storage.spm.term import TURN_S, Spm, SpmChanging, Term, WorkUnderWay
from node.system.leases import IO_TIMEOUT_S

log = logging.getLogger(__name__)

_NOTHING = pool_rules.Said()


class LacksWatchdog(Conflict):
    """Nothing would stop this node's guests if it lost the storage and hung."""

    code = "pool_lacks_watchdog"
    remedy = "Enable a hardware watchdog or load softdog, start wdmd, then join again."


@dataclass(frozen=True, slots=True)
class Options:
    io_timeout_s: int = IO_TIMEOUT_S
    # Data are at risk if a node that hangs is not reset. Only where nothing is kept.
    risks_data_without_watchdog: bool = False
    # Jobs that move data of one storage domain at once: two fill most paths to it.
    data_jobs_max: int = 2
    images: Path | None = None  # the folder of base images; None: there is none


class Pool:
    """One pool, as one node knows and changes it."""

    def __init__(
        self,
        pool_id: str,
        node_id: NodeId,
        guard: Guard,
        clock: Clock,
        *,
        local_folders: LocalFolders,
        recover: Callable[[Term], None],
        remember: Callable[[PoolMap], None],
        has_watchdog: Callable[[], bool],
        known: PoolMap | None = None,
        options: Options = Options(),
    ) -> None:
        """`known` is the map that this node remembered last."""
        self.pool_id = pool_id
        self._node_id = node_id
        self._guard = guard
        self._local_folders = local_folders
        self._has_watchdog = has_watchdog
        self.options = options
        self._lock = threading.Lock()
        self._structure = threading.RLock()  # one change of the map at a time
        self._accesses: Mapping[str, Access] = {}
        self._memory = MapMemory(pool_id, remember, known)
        self.spm = Spm(
            guard, self, node_id, clock, recover, io_timeout_s=options.io_timeout_s
        )

    # what this node can reach

    def connect(self, access: Access) -> None:
        """Say how this node reaches a storage domain, which is mounted. NotLocal."""
        self._local_folders.check(access)
        with self._lock:
            accesses = {**self._accesses, access.storage_domain_id: access}
            self._accesses = accesses

    def disconnect(self, storage_domain_id: str) -> None:
        """Forget the way to a storage domain, which is about to be unmounted."""
        with self._lock:
            self._accesses = {
                key: value
                for key, value in self._accesses.items()
                if key != storage_domain_id
            }

    def access(self, storage_domain_id: str) -> Access:
        """Return how a storage domain is reached; as `accesses.not_connected`."""
        access = self._accesses.get(storage_domain_id)
        if access is None:
            is_named = self._memory.names(storage_domain_id)
            raise accesses.not_connected(storage_domain_id, is_named=is_named)
        return access

    @property
    def map(self) -> PoolMap:
        """Return the map as it was read last; PoolLost."""
        return self._memory.require()

    def master(self) -> Access:
        return self.access(self.map.master_id)

    def others(self) -> Sequence[Access]:
        """Return the active data storage domains within reach but the master."""
        return [
            self._accesses[each]
            for each in pool_rules.active_data(self.map)
            if each != self.map.master_id and each in self._accesses
        ]

    def reached(self) -> Sequence[Access]:
        """Return all storage domains that this node reaches, in use or not."""
        return tuple(self._accesses.values())

    def resting(self) -> Sequence[Access]:
        """Return the storage domains within reach that the pool does not use."""
        active = set(pool_rules.active(self.map))
        return [each for each in self.reached() if each.storage_domain_id not in active]

    def join(self, access: Access) -> int:
        """Join a storage domain's lockspace; return our host id there.

        Raises LacksWatchdog, StorageDomainCopied, and what `host_ids.join` raises.
        """
        if not access.is_local:
            meta = access.meta(self._guard, LOOK_S)
            pool_rules.check_place(meta, access.storage_domain_id, access.source)
        return self._join(access)

    def host_id(self, access: Access) -> int | None:
        """Return our host id in a lockspace; None: we are not in it."""
        return host_ids.find(self._guard, access.lockspace)

    def refresh(self) -> PoolMap:
        """Read the maps within reach, and believe the newest.

        Raises PoolLost and PoolMapsDiffer; a storage domain that cannot be read, or
        has another pool's map, is passed over.
        """
        return self._memory.believe_newest(self._read_maps())

    def leave_resting(self) -> None:
        """Leave the lockspaces of storage domains that the pool does not use."""
        with self._structure:  # none is being activated
            for access in self.resting():
                self._leave(access)

    # what the manager does

    def create(
        self, access: Access, name: str = "", said: pool_rules.Said = _NOTHING
    ) -> PoolMap:
        """Make a pool of one storage domain, and manage it. Idempotent.

        Refused, it leaves nothing behind. Raises NotLocal, NotAData, OtherPool,
        PoolExists, SpmHeld, and what `join` and `Spm.become` raise.
        """
        self._local_folders.check(access)
        if self.spm.state is State.SERVING and (
            access.storage_domain_id == self.map.master_id
        ):
            return self.map
        self._check_new(access)
        was_joined = self.host_id(access) is not None
        with self.spm.alone(TURN_S):
            try:
                self.join(access)
                need = access.need(structure_lease.acquire(self._guard, access))
                found = self._claim_new(access, need, name, said)
                self.connect(access)
                self._memory.believe(found)
                self.spm.become()
            except BaseException:
                structure_lease.release(self._guard, access)
                if not was_joined:
                    self._leave(access)
                raise
        return self.map

    def attach(
        self,
        access: Access,
        generation: int | None = None,
        is_forced: bool = False,
        said: pool_rules.Said = _NOTHING,
    ) -> PoolMap:
        """Take a storage domain into the pool, in maintenance. Idempotent.

        `is_forced`: although it names another pool, or lies elsewhere than it says.
        Refused (SpmHeld) while another pool's manager holds it, forced or not.
        """
        with self._changing(generation) as (term, known):
            self._local_folders.check(access)
            self._check_claimable(access, is_forced)
            with self._claiming(access, term) as needs:
                # Another pool may have been quicker; now nobody else changes it.
                meta = self._check_claimable(access, is_forced)
                if pool_rules.find(known, meta.storage_domain_id) is None:
                    if meta.domain_class is DomainClass.DATA:
                        pool_files.make_ready(self._guard, access, needs)
                        # Of a pool that it was in before, if any.
                        pool_files.remove_map(self._guard, access, needs)
                    claimed = pool_rules.claimed(meta, self.pool_id, access.source)
                    pool_files.put_meta(self._guard, access, claimed, meta, needs)
            self.connect(access)
            if pool_rules.find(known, meta.storage_domain_id) is not None:
                return known
            added = pool_rules.new_entry(meta, access.connection, said)
            return self._change(term, known, pool_rules.with_entry(known, added))

    def change(
        self, access: Access, change: pool_rules.Change, generation: int | None = None
    ) -> PoolMap:
        """Say something else of a storage domain. Idempotent. StorageDomainActive.

        `access`: how it is reached from now on; what lies there must be it.
        """
        key = access.storage_domain_id
        with self._changing(generation) as (term, known):
            self._local_folders.check(access)
            before = pool_rules.entry(known, key)
            entry = pool_rules.changed_entry(before, change, access.connection)
            meta = access.meta(self._guard)
            pool_rules.check_itself(meta, key, self.pool_id)
            if before.connection in (None, access.connection):
                pool_rules.check_place(meta, key, access.source)
            elif (old := self._accesses.get(key)) is not None:
                self._leave(old)  # a lockspace is never joined by two ways
            said = replace(meta, description=entry.name, remote_path=access.source)
            with self._claiming(access, term) as needs:
                pool_files.put_meta(self._guard, access, said, meta, needs)
                changed = self._change(term, known, pool_rules.with_entry(known, entry))
            self.connect(access)
            return changed

    def activate(
        self, storage_domain_id: str, generation: int | None = None
    ) -> PoolMap:
        """Let all nodes use a storage domain. Idempotent."""
        with self._changing(generation) as (term, known):
            entry = pool_rules.entry(known, storage_domain_id)
            access = self.access(storage_domain_id)
            meta = access.meta(self._guard)
            pool_rules.check_place(meta, access.storage_domain_id, access.source)
            pool_rules.check_ours(meta, self.pool_id)
            if pool_rules.has_leases(meta):
                self.join(access)
            if entry.domain_class is DomainClass.DATA:
                if storage_domain_id not in term.held:
                    term = self.spm.hold(access, term)
                needs = term.needs(storage_domain_id)
                pool_files.mend_role(self._guard, access, known, needs)
            active = replace(entry, state=PoolDomainState.ACTIVE)
            return self._change(term, known, pool_rules.with_entry(known, active))

    def maintain(
        self, storage_domain_id: str, generation: int | None = None
    ) -> PoolMap:
        """Let no node use a storage domain any more. Idempotent. MasterInUse."""
        with self._changing(generation) as (term, known):
            entry = pool_rules.entry(known, storage_domain_id)
            if storage_domain_id == known.master_id:
                raise pool_rules.MasterInUse(
                    f"{storage_domain_id} is the master of the pool"
                )
            resting = replace(entry, state=PoolDomainState.MAINTENANCE)
            wanted = pool_rules.with_entry(known, resting)
            changed = self._change(term, known, wanted)
            if storage_domain_id in term.held:
                self.spm.let_go(self.access(storage_domain_id), term)
            return changed

    def detach(
        self,
        storage_domain_id: str,
        generation: int | None = None,
        is_forced: bool = False,
    ) -> PoolMap:
        """Take a storage domain out of the pool. Idempotent.

        `is_forced`: although it cannot be written; it then still names this pool.
        """
        with self._changing(generation) as (term, known):
            entry = pool_rules.find(known, storage_domain_id)
            if entry is not None and entry.state is PoolDomainState.ACTIVE:
                raise pool_rules.StorageDomainActive(f"{storage_domain_id} is active")
            wanted = pool_rules.without_entry(known, storage_domain_id)
            try:
                access = self.access(storage_domain_id)
                with self._claiming(access, term) as needs:
                    known = self._change(term, known, wanted)
                    self._disclaim(access, needs)
            except Error as error:
                if not is_forced:
                    raise
                log.warning("%s still names the pool: %s", storage_domain_id, error)
                wanted = pool_rules.without_entry(known, storage_domain_id)
                known = self._change(term, known, wanted)
            self._forget(storage_domain_id)
            return known

    def move_master(
        self, storage_domain_id: str, generation: int | None = None
    ) -> PoolMap:
        """Make another active data storage domain the master. Idempotent.

        Refused (WorkUnderWay) while jobs have journals on the old one.
        """
        with self._changing(generation) as (term, known):
            if storage_domain_id == known.master_id:
                return known
            pool_rules.check_master(pool_rules.entry(known, storage_domain_id))
            access, old = self.access(storage_domain_id), self.access(known.master_id)
            if storage_domain_id not in term.held:
                term = self.spm.hold(access, term)
            with self.spm.quiet():
                if left := pool_files.journals(self._guard, old):
                    raise WorkUnderWay(
                        f"{len(left)} jobs have not ended: {', '.join(left[:3])}"
                    )
                needs = term.needs(storage_domain_id)
                pool_files.make_ready(self._guard, access, needs)
                moved = replace(
                    known,
                    master_version=known.master_version + 1,
                    master_id=storage_domain_id,
                )
                changed = self._change(term, known, moved)
            for each in (access, old):
                needs = term.needs(each.storage_domain_id)
                pool_files.mend_role(self._guard, each, changed, needs)
            return changed

    def reconstruct(self, storage_domain_id: str) -> PoolMap:
        """Make a new master where the old one is dead, and manage the pool.

        It begins from the newest map that this node has read or remembers, and from
        this storage domain's where others contradict it. Refused (SpmHeld) while a
        manager lives: it holds the new master's lease too.
        """
        access = self.access(storage_domain_id)
        with self.spm.alone(TURN_S):
            if self.spm.state is not State.FREE:
                raise SpmChanging(
                    f"this node is {self.spm.state}: move the master instead"
                )
            known = self._memory.best(self._read_maps(), storage_domain_id)
            pool_rules.check_master(pool_rules.entry(known, storage_domain_id))
            self.join(access)
            try:
                need = access.need(structure_lease.acquire(self._guard, access))
                # Nobody else changes it from now on.
                known = self._memory.best(self._read_maps(), storage_domain_id)
                there = pool_files.read_map(self._guard, access, self.pool_id)
                if there != known or known.master_id != storage_domain_id:
                    moved = replace(
                        known,
                        master_version=known.master_version + 1,
                        generation=known.generation + 1,
                        master_id=storage_domain_id,
                    )
                    if known.master_id != storage_domain_id:
                        pool_files.make_ready(self._guard, access, (need,))
                    pool_files.put_map(self._guard, access, moved, (need,))
                    self._memory.believe(moved)
                self.spm.become()
            except BaseException:
                structure_lease.release(self._guard, access)
                raise
        with self.spm.work() as term:
            needs = term.needs(storage_domain_id)
            pool_files.mend_role(self._guard, access, self.map, needs)
        return self.map

    def mend(self) -> None:
        """Bring what came back to what the pool is now: its lease, map and role.

        A lease that was lost with its lockspace is taken anew, and one that nobody
        needs any more given back.
        """
        self._hold_again()
        with self._structure, self.spm.work() as term:
            there = self._read_maps()
            known = self._memory.believe_newest(there)
            if term.is_overtaken(known):
                return
            self.spm.tidy_resting(self.resting())
            for access in (self.master(), *self.others()):
                storage_domain_id = access.storage_domain_id
                is_old = there.get(storage_domain_id, known) != known
                if not is_old or storage_domain_id not in term.held:
                    continue
                needs = term.needs(storage_domain_id)
                try:
                    # Its old map last: if we stop before, all is done again.
                    pool_files.mend_role(self._guard, access, known, needs)
                    pool_files.put_map(self._guard, access, known, needs)
                except Error as error:
                    log.info("%s cannot be mended: %s", storage_domain_id, error)

    def is_overtaken(self) -> bool:
        """Tell whether another node has made another master meanwhile.

        Nobody can tell while this node itself changes the pool: then not.
        """
        if not self._structure.acquire(blocking=False):
            return False
        try:
            return self.spm.term().is_overtaken(self.refresh())
        finally:
            self._structure.release()

    # how

    @contextlib.contextmanager
    def _changing(self, generation: int | None) -> Iterator[tuple[Term, PoolMap]]:
        """Change the map alone, as manager; PoolMoved if the caller saw another."""
        with self._structure, self.spm.work() as term:
            known = self.map
            if generation not in (None, known.generation):
                raise pool_rules.PoolMoved(
                    f"the pool has generation {known.generation}, not {generation}",
                    generation=known.generation,
                )
            yield term, known

    def _change(self, term: Term, known: PoolMap, wanted: PoolMap) -> PoolMap:
        """Write a new map to every active data storage domain, the master first.

        Under the leases of `term`: if this node became manager again since, they are
        stale. Raises PoolMoved if `known` is not the map any more.
        """
        if self.map != known:
            raise pool_rules.PoolMoved(
                f"the pool has generation {self.map.generation}, not "
                f"{known.generation}",
                generation=self.map.generation,
            )
        if wanted == known:
            return known
        changed = replace(wanted, generation=known.generation + 1)
        needs = term.needs(changed.master_id)
        pool_files.put_map(self._guard, self.access(changed.master_id), changed, needs)
        self._memory.believe(changed)
        if changed.master_id != term.master_id:
            term = self.spm.follow(changed, term)
        for access in self.others():
            storage_domain_id = access.storage_domain_id
            try:
                needs = term.needs(storage_domain_id)
                pool_files.put_map(self._guard, access, changed, needs)
            except Error as error:
                is_away = isinstance(error, Unavailable)
                if not is_away and not self._is_lost_alone(error):
                    raise
                # Its older map loses; `mend` writes it when it is back.
                log.warning("map of %s is old: %s", storage_domain_id, error)
        return changed

    def _is_lost_alone(self, error: Error) -> bool:
        """Tell whether another lease than the master's was lost."""
        return error.code == StaleLease.code and self.spm.check()

    def _hold_again(self) -> None:
        """Take the leases that the manager should hold and does not.

        Not as `work`, and with no lock: joining may take minutes.
        """
        term = self.spm.drop_lost()
        for access in self.others():
            if access.storage_domain_id in term.held:
                continue
            try:
                # First whether it answers.
                access.meta(self._guard, LOOK_S)
                term = self.spm.hold(access, term)
            except Error as error:
                log.info("without %s: %s", access.storage_domain_id, error)

    def _read_maps(self) -> dict[str, PoolMap | None]:
        return pool_files.read_maps(self._guard, self.reached(), self.pool_id)

    def _check_new(self, access: Access) -> tuple[DomainMeta, PoolMap | None]:
        """Return what a new pool begins with: metadata, and the map if it has one."""
        meta = access.meta(self._guard)
        pool_rules.check_data(meta)
        pool_rules.check_free(meta, self.pool_id)
        found = pool_files.read_map(self._guard, access, self.pool_id)
        known = self._memory.known or found
        if known is not None and known.master_id != access.storage_domain_id:
            raise pool_rules.PoolExists(
                f"pool {self.pool_id} has master {known.master_id}"
            )
        return meta, found

    def _claim_new(
        self, access: Access, need: Need, name: str, said: pool_rules.Said
    ) -> PoolMap:
        """Write a new pool's map and metadata; return the map."""
        meta, found = self._check_new(access)
        if found is None:
            way = access.connection
            found = pool_rules.new_map(self.pool_id, meta, way, name, said)
            pool_files.make_ready(self._guard, access, (need,))
            pool_files.put_map(self._guard, access, found, (need,))
        claimed = replace(meta, pool_ids=(self.pool_id,), role=DomainRole.MASTER)
        pool_files.put_meta(self._guard, access, claimed, meta, (need,))
        return found

    def _check_claimable(self, access: Access, is_forced: bool) -> DomainMeta:
        meta = access.meta(self._guard)
        if not is_forced:
            pool_rules.check_place(meta, access.storage_domain_id, access.source)
            pool_rules.check_free(meta, self.pool_id)
        return meta

    @contextlib.contextmanager
    def _claiming(self, access: Access, term: Term) -> Iterator[tuple[Need, ...]]:
        """Hold a storage domain's own lease beside the master's; yield both.

        oVirt's ISO storage domains have no leases: the master's must do.
        """
        needs = term.needs(term.master_id)
        if access.storage_domain_id in term.held:
            yield term.needs(access.storage_domain_id)
            return
        if not pool_rules.has_leases(access.meta(self._guard)):
            yield needs
            return
        self._check_watchdog(access)
        with structure_lease.holding(
            self._guard, access, self._node_id, self.options.io_timeout_s
        ) as need:
            yield (*needs, need)

    def _join(self, access: Access) -> int:
        self._check_watchdog(access)
        return structure_lease.join(
            self._guard, access, self._node_id, self.options.io_timeout_s
        )

    def _check_watchdog(self, access: Access) -> None:
        if access.is_local or self.options.risks_data_without_watchdog:
            return
        if not self._has_watchdog():
            raise LacksWatchdog("no watchdog daemon runs here", pool_id=self.pool_id)

    def _leave(self, access: Access) -> bool:
        """Leave a lockspace; tell whether we have. A later round tries again."""
        try:
            structure_lease.leave(self._guard, access)
        except Error as error:
            log.info("lockspace of %s: %s", access.storage_domain_id, error)
            return False
        return True

    def _forget(self, storage_domain_id: str) -> None:
        """Forget a storage domain, unless a lease there is still to be given back."""
        access = self._accesses.get(storage_domain_id)
        if access is not None and self._leave(access):
            self.disconnect(storage_domain_id)

    def _disclaim(self, access: Access, needs: tuple[Need, ...]) -> None:
        meta = access.meta(self._guard)
        if self.pool_id not in meta.pool_ids:
            return
        if meta.domain_class is DomainClass.DATA:
            pool_files.remove_map(self._guard, access, needs)
        free = pool_rules.disclaimed(meta, self.pool_id)
        pool_files.put_meta(self._guard, access, free, meta, needs)
