"""What the verbs on pools and storage domains have in common: where things are.

Called in the threads of jobs: what looks at a storage may take as long as it takes.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Final

from node.errors import Conflict, NotFound
from node.jobs import Progress
from node.model.ids import PoolId, StorageDomainId
from node.model.storage import Connection, DomainClass, DomainType, StorageDomain
from node.storage import documents
from node.storage.disks.work import DiskInUse
from node.storage.domains import access as accesses
from node.storage.domains import formatting, monitor
from node.storage.domains.access import LOOK_S, Access
from node.storage.formats.layout import Layout, check_id
from node.storage.pools import roster as rosters
from node.storage.pools.roster import Roster, StorageDomainIsTaken
from node.storage.pools.seat import Seat
from node.storage.pools.world import World
from node.storage.spm import pool_rules
from node.system.mounts import MountBusy

log = logging.getLogger(__name__)

LOOK_AGAIN_S: Final = 0.05  # a check takes milliseconds


class NothingFound(NotFound):
    code = "storage_domain_not_found"
    remedy = "Check the connection; look what is there first."


class SeveralFound(Conflict):
    code = "storage_domains_several"
    remedy = "Name the one to import by its id."


@dataclass(frozen=True, slots=True)
class Ground:
    """What verbs stand on. Any thread may call."""

    world: World
    roster: Roster

    @contextmanager
    def visiting(self, connection: Connection) -> Iterator[PurePosixPath]:
        """Be where a connection leads to: nobody else's verb closes it meanwhile.

        Raises what `Reach.enter` raises.
        """
        reach = self.world.reach
        with self.world.visits.at(reach.place(connection)):
            yield reach.enter(connection)

    def found(
        self, connection: Connection, storage_domain_id: StorageDomainId | None
    ) -> StorageDomain:
        """Return the storage domain at a place: that of the id, or the only one."""
        place = self.world.reach.enter(connection)
        layouts = formatting.look(self.world.reach.files(connection), place)
        ids = [each.storage_domain_id for each in layouts]
        if storage_domain_id is not None:
            ids = [each for each in ids if each == storage_domain_id]
        if not ids:
            raise NothingFound(f"{place} holds no such storage domain")
        if len(ids) > 1:
            raise SeveralFound(f"{place} holds {', '.join(ids[:5])}")
        return self.describe(connection, ids[0], place)

    def describe(
        self, connection: Connection, storage_domain_id: str, place: PurePosixPath
    ) -> StorageDomain:
        """Return what a storage domain says that it is; what `parse` raises."""
        known = StorageDomain(
            StorageDomainId(storage_domain_id), "", DomainClass.DATA, connection
        )
        meta = self.bare(known, place).meta(self.world.guard, LOOK_S)
        pool_id = PoolId(meta.pool_ids[0]) if meta.pool_ids else None
        return replace(
            known,
            name=meta.description,
            domain_class=documents.domain_class(meta.domain_class),
            pool_id=pool_id,
            version=meta.version,
            sector_bytes=meta.sector_size,
            alignment_bytes=meta.alignment,
        )

    def bare(self, known: StorageDomain, place: PurePosixPath) -> Access:
        """Return how a storage domain is accessed whose metadata were not read."""
        connection = known.connection
        return Access(
            Layout(place / check_id(known.storage_domain_id)),
            accesses.source(connection),
            connection.kind is DomainType.LOCALFS,
            known.sector_bytes,
            known.alignment_bytes,
            connection,
        )

    def is_there(self, known: StorageDomain) -> bool:
        """Tell whether it was made before; StorageDomainIsTaken if it is another."""
        for each in self.roster.known():
            if each.storage_domain_id == known.storage_domain_id:
                if each.connection != known.connection:
                    raise StorageDomainIsTaken(
                        f"{known.storage_domain_id} is {each.name}",
                        storage_domain_id=known.storage_domain_id,
                    )
                return True
        return False

    def knows(self, storage_domain_id: str) -> bool:
        return any(
            each.storage_domain_id == storage_domain_id for each in self.roster.known()
        )

    def way(self, seat: Seat, storage_domain_id: str) -> StorageDomain:
        """Return the way to a storage domain of a pool; NotInPool."""
        known = seat.find(storage_domain_id)
        if known is None:
            pool_rules.entry(seat.pool.map, storage_domain_id)
            raise NothingFound(
                f"nothing says how to reach storage domain {storage_domain_id}"
            )
        return known

    def manager(self, seat: Seat) -> Seat:
        """Return the seat if it manages its pool. NotSpm."""
        rosters.require_manager(seat)
        return seat

    def look(self, seat: Seat, storage_domain_id: str, progress: Progress) -> None:
        """Wait until a storage domain was checked, a short while."""
        seat.follow()
        until = self.world.clock.monotonic() + monitor.DEADLINE_S
        while self.world.clock.monotonic() < until:
            watch = seat.watches().get(storage_domain_id)
            if watch is not None and watch.document is not None:
                return
            progress.pause(LOOK_AGAIN_S)

    def check_idle(self, storage_domain_id: str) -> None:
        """Refuse what a guest here runs on."""
        for disk_id, use in self.world.uses().items():
            if use.storage_domain_id == storage_domain_id:
                raise DiskInUse(
                    f"VM {use.vm_id} runs with disk {disk_id}",
                    disk_id=disk_id,
                    vm_id=use.vm_id,
                )

    def disks_on(self, seat: Seat, storage_domain_id: str) -> frozenset[str]:
        """Return the disks that stop with a storage domain: there, or by a lease."""
        sight = seat.catalog.sight(storage_domain_id)
        found = set(sight.images) if sight is not None else set()
        for stored in seat.vms.list().vms:
            spec = stored.vm.spec
            master_id = seat.pool.map.master_id
            leased_on = spec.lease_domain_id or stored.home or master_id
            found |= {
                each.disk_id
                for each in spec.disks
                if each.storage_domain_id is not None
                and storage_domain_id in (leased_on, each.storage_domain_id)
            }
        return frozenset(found)

    def check_unused(self, disk_ids: Iterable[str]) -> None:
        """Refuse disks that a guest runs with on any node. DiskInUse, Unavailable."""
        for disk_id in sorted(disk_ids):
            vm_id = self.world.vm_of(disk_id)
            if vm_id is not None:
                raise DiskInUse(
                    f"VM {vm_id} runs with disk {disk_id}",
                    disk_id=disk_id,
                    vm_id=vm_id,
                )

    def close(self, connection: Connection) -> None:
        """Unmount what nothing of ours uses any more, and no other verb is at."""
        if any(each.connection == connection for each in self.roster.known()):
            return
        reach = self.world.reach
        try:
            self.world.visits.close(
                reach.place(connection), lambda: reach.close(connection)
            )
        except MountBusy as error:
            log.info("%s stays mounted: %s", connection.path, error)

    def tell(self, code: str, **fields: str) -> None:
        self.world.tell(code, fields)
