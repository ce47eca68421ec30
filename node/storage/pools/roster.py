"""Know this node's pools and the storage domains of none, and where each belongs.

What is wanted is written down first; then threads begin to look after it.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from node.contract.volumes import PoolUnknown
from node.errors import Conflict, Error
from node.model.ids import PoolId
from node.model.storage import StorageDomain
from node.storage.domains.access import StorageDomainUnknown
from node.storage.formats.layout import check_id
from node.storage.operations.facts import DiskMissing
from node.storage.pools import watch
from node.storage.pools.seat import Founding, Seat
from node.storage.pools.wanted import WantedPool
from node.storage.pools.watch import Watch
from node.storage.pools.world import World
from node.storage.spm.term import NotSpm, SpmChanging


class StorageDomainIsTaken(Conflict):
    """The id is that of a storage domain that this node knows."""

    code = "storage_domain_id_taken"
    remedy = "Choose a new random UUID for each storage domain."


class Roster:
    """All that this node takes part in. Any thread may call."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lock = threading.Lock()
        self._is_started = False
        wanted = world.memory.wanted
        self._seats = {each.pool_id: Seat(each, world) for each in wanted.pools}
        self._loose: dict[str, Watch] = {
            each.storage_domain_id: self._watch(each)
            for each in wanted.loose
            if each.pool_id is None
        }

    def start(self) -> None:
        with self._lock:
            self._is_started = True
            parts = self._parts()
        for part in parts:
            part.start()

    def stop(self, deadline_s: float) -> None:
        """Stop all that looks; leases and mounts stay as they are."""
        with self._lock:
            self._is_started = False
            parts = self._parts()
        for part in parts:
            part.stop(0.0)
        until = self._world.clock.monotonic() + deadline_s
        for part in parts:
            part.stop(max(until - self._world.clock.monotonic(), 0.0))

    def poke(self) -> None:
        """Look at everything now: what did not answer does again."""
        for seat in self.seats():
            seat.poke()
            for each in seat.watches().values():
                each.poke()
        for each in self.loose().values():
            each.poke()

    # pools

    def seats(self) -> Sequence[Seat]:
        with self._lock:
            return tuple(self._seats.values())

    def seat(self, pool_id: str) -> Seat:
        """Return our part in a pool; PoolUnknown."""
        with self._lock:
            seat = self._seats.get(PoolId(pool_id))
        if seat is None:
            raise PoolUnknown(
                f"this node is not in pool {pool_id[:80]!a}", pool_id=ascii(pool_id)
            )
        return seat

    def new_seat(self, wanted: WantedPool) -> Seat:
        """Return a part in a pool that nobody looks after yet."""
        return Seat(wanted, self._world)

    def found(self, wanted: WantedPool, found: Founding) -> None:
        """Take part in a pool that is made when its storage can be reached."""
        with self._lock:
            if wanted.pool_id not in self._seats:
                self._seats[wanted.pool_id] = Seat(wanted, self._world, found)

    def take(self, seat: Seat) -> None:
        """Take part in a pool from now on; its storage domains are loose no more."""
        wanted = seat.wanted
        self._world.memory.change(lambda before: before.with_pool(wanted))
        with self._lock:
            known = self._seats.setdefault(wanted.pool_id, seat)
            is_new = known is seat and self._is_started
        for each in wanted.reachable():
            self.drop_loose(each.storage_domain_id)
        if is_new:
            seat.start()
        self._world.on_news()

    def leave(self, pool_id: str) -> None:
        """Take part no more."""
        self._world.memory.change(lambda before: before.without_pool(pool_id))
        with self._lock:
            self._seats.pop(PoolId(pool_id), None)
        self._world.on_news()

    def renew(self, seat: Seat) -> None:
        """Take part anew where a seat was stopped."""
        with self._lock:
            fresh = self.new_seat(seat.wanted)
            self._seats[seat.wanted.pool_id] = fresh
        fresh.start()

    # storage domains

    def loose(self) -> Mapping[str, Watch]:
        with self._lock:
            return dict(self._loose)

    def find_loose(self, storage_domain_id: str) -> StorageDomain:
        """Return a storage domain of no pool; StorageDomainUnknown."""
        with self._lock:
            found = self._loose.get(storage_domain_id)
        if found is None:
            raise StorageDomainUnknown(
                f"storage domain {storage_domain_id[:80]!a} is not known here",
                storage_domain_id=ascii(storage_domain_id),
            )
        return found.known

    def add_loose(self, known: StorageDomain) -> None:
        """Look after a storage domain of no pool."""
        known = replace(known, pool_id=None)
        self._world.memory.change(lambda before: before.with_loose(known))
        with self._lock:
            if known.storage_domain_id in self._loose:
                return
            added = self._loose[known.storage_domain_id] = self._watch(known)
        if self._is_started:
            added.start()
        self._world.on_news()

    def leaving(self, storage_domain_id: str) -> StorageDomain | None:
        """Return a storage domain that a verb is taking out of its pool."""
        found = self._world.memory.wanted.find_loose(storage_domain_id)
        return found if found is not None and found.pool_id is not None else None

    def note_leaving(self, known: StorageDomain, pool_id: PoolId) -> None:
        """Remember where a storage domain lies that its pool is about to forget."""
        noted = replace(known, pool_id=pool_id)
        self._world.memory.change(lambda before: before.with_loose(noted))

    def forget_leaving(self, known: StorageDomain) -> None:
        """Hear that a storage domain stays where it is."""
        key = known.storage_domain_id
        if self.seat_of(key) is not None:
            self._world.memory.change(lambda before: before.without_loose(key))

    def drop_loose(self, storage_domain_id: str) -> None:
        self._world.memory.change(lambda b: b.without_loose(storage_domain_id))
        with self._lock:
            dropped = self._loose.pop(storage_domain_id, None)
        if dropped is not None:
            dropped.stop(0.0)
        self._world.on_news()

    def seat_of(self, storage_domain_id: str) -> Seat | None:
        """Return the pool that a storage domain belongs to; None: to none of ours."""
        return next((e for e in self.seats() if e.has(storage_domain_id)), None)

    def seat_with(self, storage_domain_id: str) -> Seat:
        """Return the pool that a storage domain belongs to; StorageDomainUnknown."""
        seat = self.seat_of(storage_domain_id)
        if seat is None:
            raise StorageDomainUnknown(
                f"storage domain {storage_domain_id[:80]!a} is in no pool of this node",
                storage_domain_id=ascii(storage_domain_id),
            )
        return seat

    def known(self) -> Iterable[StorageDomain]:
        """Return all storage domains that this node knows a way to."""
        for seat in self.seats():
            yield from seat.wanted.reachable()
        for each in self.loose().values():
            yield each.known

    # disks

    def seat_of_disk(self, disk_id: str) -> Seat:
        """Return the pool that a disk is in. DiskMissing, or NotSpm of another node.

        Of a pool that another node manages nobody here knows the disks.
        """
        check_id(disk_id)
        seats = tuple(self.seats())
        for seat in seats:
            if seat.catalog.find(disk_id):
                return seat
        for seat in seats:
            if seat.is_serving and self._looks_for(seat, disk_id):
                return seat
        for seat in seats:
            if not seat.is_serving:
                require_manager(seat)
        raise DiskMissing(f"disk {disk_id} is on no active storage domain", id=disk_id)

    def seat_of_task(self, storage_domain_ids: Iterable[str]) -> Seat | None:
        """Return the pool that a job on disks was taken on for."""
        found = (self.seat_of(each) for each in storage_domain_ids)
        return next((each for each in found if each is not None), None)

    def _parts(self) -> tuple[Seat | Watch, ...]:
        return (*self._seats.values(), *self._loose.values())

    def _looks_for(self, seat: Seat, disk_id: str) -> bool:
        """Look for a disk that nobody has read of yet."""
        for access in seat.pool.reached():
            try:
                if seat.catalog.read_image(access, disk_id) is not None:
                    return True
            except Error:
                continue  # one that does not answer says nothing
        return False

    def _watch(self, known: StorageDomain) -> Watch:
        world = self._world
        return Watch(
            known,
            watch.NOBODY,
            world.reach,
            world.guard,
            world.clock,
            world.node,
            world.on_news,
        )


def require_manager(seat: Seat) -> None:
    """Refuse what only the manager may do; NotSpm names it, SpmChanging is for now."""
    if not seat.is_serving:
        holder = seat.holder()
        if holder == seat.node_id:  # as it seemed a moment ago
            raise SpmChanging(f"this node managed pool {seat.wanted.pool_id} just now")
        raise NotSpm(
            f"node {holder or '(none)'} manages pool {seat.wanted.pool_id}",
            pool_id=seat.wanted.pool_id,
            node_id=holder,
        )
