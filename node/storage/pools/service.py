"""Be the storage of a node: all its pools, behind the verbs of its API.

What changes anything is a job with workers of its own; what is read comes from
memory. The agent starts and serves its VMs whether or not the storage process or a
disk answers: `problems` says what does not.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from node import jobs, wire
from node.clock import rfc3339
from node.contract.memories import check_free
from node.errors import Error, Invalid
from node.model import storage_requests as bodies
from node.model.ids import DiskId, PoolId, StorageDomainId
from node.model.job import Job
from node.model.reason import Reason
from node.model.storage import (
    SPM_PRIORITY_MAX,
    ContentType,
    DiskDocument,
    DomainState,
    PoolDocument,
    SpmPriority,
    StorageDomainDocument,
)
from node.storage.disks import problems as words
from node.storage.disks.verbs import Disks
from node.storage.domains import formatting
from node.storage.domains.access import StorageDomainUnknown
from node.storage.domains.catalog import Catalog
from node.storage.guard import GuardDown
from node.storage.operations.facts import DiskMissing
from node.storage.pools import local, memories
from node.storage.pools import reach as reaches
from node.storage.pools import roster as rosters
from node.storage.pools.asks import Asks, Request
from node.storage.pools.exports import PoolExports
from node.storage.pools.ground import Ground
from node.storage.pools.parts import Part
from node.storage.pools.reports import Reports
from node.storage.pools.roster import Roster
from node.storage.pools.seat import RoundBroke, Seat
from node.storage.pools.templates import PoolTemplates
from node.storage.pools.volumes import PoolVolumes
from node.storage.pools.world import World
from node.store import Store

log = logging.getLogger(__name__)

# How often we look whether the storage process is there.
PULSE_S: Final = 5.0
AGAIN_S: Final = 1.0
# They change what a guest would read; a suspended one would not know.
_CONTENT: Final = frozenset({"disk_delete", "disk_resize", "disk_sparsify"})


class BadPriority(Invalid):
    code = "bad_spm_priority"
    remedy = f"Choose {SpmPriority.NEVER} (never) to {SPM_PRIORITY_MAX}."


class Storage:
    """All pools of this node. Any thread may call."""

    def __init__(self, store: Store, world: World, local_folder: Path | None) -> None:
        """`local_folder` None: this node has no local pool."""
        self._store = store
        self._world = replace(world, on_news=self._poke, tell=self._tell)
        self._news: Callable[[], None] = _nobody_listens
        self._roster = Roster(self._world)
        self._ground = Ground(self._world, self._roster)
        self._asks = Asks(self._world, self._roster, self._ground)
        if local_folder is not None:
            wanted = local.wanted(world.node_id, world.node_name, local_folder)
            self._roster.found(wanted, local.founding(self._world))
        self._told = Reports(store, self._world, self._roster.seats, self._roster.loose)
        self._news = self._told.poke
        self._down: Reason | None = None  # the storage process does not answer
        self._held: set[tuple[str, str, int]] = set()  # leases, as seen last
        self._is_stopped = threading.Event()
        self._pulse = threading.Thread(
            target=self._feel, name="storage-pulse", daemon=True
        )

    def start(self) -> None:
        """Begin to look after all pools; call it after `Jobs.recover`."""
        self._told.start()
        self._roster.start()
        self._pulse.start()

    def stop(self, deadline_s: float) -> None:
        """Look after nothing more; leases, mounts and writers stay as they are."""
        self._is_stopped.set()
        self._roster.stop(deadline_s)
        self._told.stop(deadline_s)

    @property
    def is_down(self) -> bool:
        """Whether the storage process does not answer."""
        return self._down is not None

    @property
    def roster(self) -> Roster:
        return self._roster

    @property
    def ground(self) -> Ground:
        return self._ground

    @property
    def world(self) -> World:
        return self._world

    def problems(self) -> tuple[Reason, ...]:
        """Return why storage of this node cannot be used, the gravest first."""
        has_any = self._roster.seats() or self._roster.loose()
        if self._down is not None and has_any:
            return (self._down,)
        found = []
        for seat in self._roster.seats():
            reason = seat.reason()
            if reason is not None and isinstance(seat.failure, RoundBroke):
                found.append(reason)
            for watch in seat.watches().values():
                document = watch.document
                if document is None or document.reason is None:
                    continue
                if document.state is DomainState.UNREACHABLE:
                    found.append(document.reason)
        return tuple(found)

    def volumes(self) -> PoolVolumes:
        """Return the pools as VMs need them."""
        world = self._world
        return PoolVolumes(self._parts, world.guard, world.jobs, world.clock)

    def templates(self) -> PoolTemplates:
        """Return the templates that lie on the pools."""
        return PoolTemplates(self._parts)

    def exports(self) -> PoolExports:
        """Return the export storage domains of the pools."""
        world = self._world
        return PoolExports(self._parts, world.guard, world.clock)

    def job_handlers(self) -> Mapping[str, jobs.Handler]:
        """Return what runs an unfinished job of ours again, by verb."""
        return self._asks.handlers()

    # storage domains

    def storage_domain_list(self) -> bodies.StorageDomainList:
        found = self._told.now().storage_domains
        return bodies.StorageDomainList(
            tuple(each for _, each in sorted(found.items()))
        )

    def storage_domain_show(
        self, storage_domain_id: StorageDomainId
    ) -> StorageDomainDocument:
        found = self._told.now().storage_domains.get(storage_domain_id)
        if found is None:
            raise StorageDomainUnknown(
                f"storage domain {storage_domain_id[:80]!a} is not known here",
                storage_domain_id=ascii(storage_domain_id[:80]),
            )
        return found

    def storage_domain_create(self, request: bodies.CreateStorageDomain) -> Job:
        reaches.check(request.connection)
        return self._asks.take(
            "storage_domain_create",
            request.storage_domain_id,
            request,
        )

    def storage_domain_look(
        self, request: bodies.LookForStorageDomains
    ) -> bodies.FoundStorageDomains:
        """Look what lies at a place; it is left as it was found."""
        reach, connection = self._world.reach, request.connection
        found, problems = [], []
        try:
            with self._ground.visiting(connection) as place:
                for layout in formatting.look(reach.files(connection), place):
                    key = layout.storage_domain_id
                    try:
                        found.append(self._ground.describe(connection, key, place))
                    except Error as error:
                        fields = {"name": key, "detail": str(error)}
                        at = rfc3339(self._world.clock.now())
                        problems.append(Reason("storage_domain_damaged", at, fields))
        finally:
            self._ground.close(connection)
        return bodies.FoundStorageDomains(tuple(found), tuple(problems))

    def storage_domain_import(self, request: bodies.ImportStorageDomain) -> Job:
        reaches.check(request.connection)
        # Which one is found later; one import of a place at a time.
        place = uuid.uuid5(uuid.NAMESPACE_URL, wire.encode(request.connection).decode())
        object_id = request.storage_domain_id or str(place)
        return self._asks.take("storage_domain_import", object_id, request)

    def storage_domain_attach(
        self, storage_domain_id: StorageDomainId, request: bodies.AttachStorageDomain
    ) -> Job:
        return self._asks.take(
            "storage_domain_attach",
            storage_domain_id,
            request,
            lambda: rosters.require_manager(self._roster.seat(request.pool_id)),
        )

    def storage_domain_change(
        self, storage_domain_id: StorageDomainId, request: bodies.ChangeStorageDomain
    ) -> Job:
        if request.connection is not None:
            reaches.check(request.connection)
        return self._asks.manage("storage_domain_change", storage_domain_id, request)

    def storage_domain_activate(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job:
        return self._asks.manage("storage_domain_activate", storage_domain_id, request)

    def storage_domain_maintain(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job:
        return self._asks.manage("storage_domain_maintain", storage_domain_id, request)

    def storage_domain_detach(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job:
        return self._asks.manage("storage_domain_detach", storage_domain_id, request)

    def storage_domain_remove(
        self, storage_domain_id: StorageDomainId, request: bodies.RemoveStorageDomain
    ) -> Job:
        return self._asks.take("storage_domain_remove", storage_domain_id, request)

    def storage_domain_check(
        self, storage_domain_id: StorageDomainId
    ) -> bodies.StorageProblems:
        """Read all disks anew; the manager also tells what was left to be purged."""
        seat = self._roster.seat_of(storage_domain_id)
        if seat is None:
            known = self._roster.find_loose(storage_domain_id)
            catalog = Catalog(self._world.guard, self._world.clock)
            findings = catalog.check(self._world.reach.open(known))
        elif seat.is_serving:
            catalog, findings = seat.catalog, seat.work.check(storage_domain_id)
        else:
            catalog = seat.catalog
            findings = catalog.check(seat.pool.access(storage_domain_id))
        sight = catalog.sight(storage_domain_id)
        assert sight is not None, "it was read just now"
        return words.report(sight, findings)

    def storage_domain_repair(
        self, storage_domain_id: StorageDomainId, request: bodies.RepairStorage
    ) -> Job:
        return self._asks.manage("storage_domain_repair", storage_domain_id, request)

    def storage_domain_write_ovf(
        self, storage_domain_id: StorageDomainId, request: bodies.ActOnStorageDomain
    ) -> Job:
        return self._asks.manage("storage_domain_write_ovf", storage_domain_id, request)

    # pools

    def pool_list(self) -> bodies.PoolList:
        found = self._told.now().pools
        return bodies.PoolList(tuple(each for _, each in sorted(found.items())))

    def pool_show(self, pool_id: PoolId) -> PoolDocument:
        self._roster.seat(pool_id)
        return self._told.now().pools[pool_id]

    def pool_create(self, request: bodies.CreatePool) -> Job:
        return self._asks.take("pool_create", request.pool_id, request)

    def pool_connect(self, pool_id: PoolId, request: bodies.ConnectPool) -> Job:
        if not request.domains:
            raise reaches.ConnectionIncomplete("there is no way into the pool")
        for each in request.domains:
            reaches.check(each.connection)
        return self._asks.take("pool_connect", pool_id, request)

    def pool_disconnect(self, pool_id: PoolId, request: bodies.ActOnPool) -> Job:
        return self._asks.take("pool_disconnect", pool_id, request)

    def pool_move_master(self, pool_id: PoolId, request: bodies.MoveMaster) -> Job:
        def check() -> None:
            seat = self._roster.seat(pool_id)
            if not request.is_reconstruction:
                rosters.require_manager(seat)

        return self._asks.take("pool_move_master", pool_id, request, check)

    def spm_become(self, pool_id: PoolId, request: bodies.BecomeSpm) -> Job:
        return self._asks.take(
            "spm_become",
            pool_id,
            request,
            lambda: self._roster.seat(pool_id),
        )

    def spm_leave(self, pool_id: PoolId, request: bodies.LeaveSpm) -> Job:
        return self._asks.take(
            "spm_leave",
            pool_id,
            request,
            lambda: self._roster.seat(pool_id),
        )

    def spm_priority(
        self, pool_id: PoolId, request: bodies.SetSpmPriority
    ) -> PoolDocument:
        if not SpmPriority.NEVER <= request.priority <= SPM_PRIORITY_MAX:
            raise BadPriority(f"{request.priority} is no priority")
        self._roster.seat(pool_id).set_priority(request.priority)
        return self.pool_show(pool_id)

    # disks

    def disk_list(self) -> bodies.DiskList:
        """Return all disks but those where definitions are written for oVirt."""
        found = sorted(self._told.now().disks.items())
        return bodies.DiskList(
            tuple(e for _, e in found if e.content is not ContentType.OVF_STORE)
        )

    def disk_show(self, disk_id: DiskId) -> DiskDocument:
        found = self._told.now().disks.get(disk_id)
        if found is None:
            self._roster.seat_of_disk(disk_id)
            found = self._told.now().disks.get(disk_id)
        if found is None:
            raise DiskMissing(
                f"disk {disk_id} is on no active storage domain", id=disk_id
            )
        return found

    def disk_create(self, request: bodies.CreateDisk) -> Job:
        seat = self._roster.seat_with(request.storage_domain_id)
        return seat.disks.create(request)

    def disk_delete(self, disk_id: DiskId, request: bodies.ActOnDisk) -> Job:
        return self._on("disk_delete", disk_id, request, Disks.delete)

    def disk_resize(self, disk_id: DiskId, request: bodies.ResizeDisk) -> Job:
        return self._on("disk_resize", disk_id, request, Disks.resize)

    def disk_change(self, disk_id: DiskId, request: bodies.ChangeDisk) -> Job:
        return self._on("disk_change", disk_id, request, Disks.change)

    def disk_copy(self, disk_id: DiskId, request: bodies.CopyDisk) -> Job:
        known = self._asks.known("disk_copy", request.disk_id, request.job_id)
        if known is not None:
            return known
        seat = self._roster.seat_of_disk(disk_id)
        kept = None
        if request.snapshot_id is not None:
            kept = seat.volume_in(request.snapshot_id, disk_id)
        return seat.disks.copy(disk_id, request, kept)

    def disk_move(self, disk_id: DiskId, request: bodies.MoveDisk) -> Job:
        return self._on("disk_move", disk_id, request, Disks.move)

    def disk_sparsify(self, disk_id: DiskId, request: bodies.SparsifyDisk) -> Job:
        return self._on("disk_sparsify", disk_id, request, Disks.sparsify)

    def _on(
        self,
        verb: str,
        disk_id: DiskId,
        request: Request,
        ask: Callable[[Disks, str, Any], Job],
    ) -> Job:
        """Ask the pool that a disk is in; a disk that is gone may have its job."""
        known = self._asks.known(verb, disk_id, request.job_id)
        if known is not None:
            return known
        seat = self._roster.seat_of_disk(disk_id)
        check_free(disk_id, (each.vm for each in seat.stored.vms))
        if verb in _CONTENT:
            memories.check_unseen(disk_id, seat.stored, seat.vms.find)
        return ask(seat.disks, disk_id, request)

    def _feel(self) -> None:
        """Know whether the storage process answers, and say when problems change."""
        pause_s, problems = AGAIN_S, frozenset[tuple[str, object]]()
        while not self._is_stopped.wait(pause_s):
            try:
                self._look_at_leases()
                pause_s = PULSE_S
            except Error as error:
                # One silence may be a restart, which takes a moment.
                if pause_s == AGAIN_S and self._down is None:
                    self._note_down(error)
                pause_s = AGAIN_S
            now = frozenset((e.code, e.fields.get("name")) for e in self.problems())
            if now != problems:
                problems = now
                self._world.on_problems()

    def _look_at_leases(self) -> None:
        """Go round at once if one is gone, or the storage process is back."""
        held = {
            (each.lockspace, each.resource, each.version)
            for each in self._world.guard.leases().held
        }
        is_news = bool(self._held - held) or self._down is not None
        self._held, self._down = held, None
        if is_news:
            log.info("%d leases are held", len(held))
            self._roster.poke()

    def _note_down(self, error: Error) -> None:
        log.warning("%s", error)
        at = rfc3339(self._world.clock.now())
        fields = {
            "node": self._world.node_name,
            "detail": str(error.__cause__ or error),
        }
        self._down = Reason(GuardDown.code, at, fields)

    def _parts(self) -> Iterable[Part]:
        return [
            Part(
                *(each.pool, each.vms, each.catalog, each.disks),
                each.wanted.is_local,
                each.look_at_vms,
                partial(_is_back, each),
                partial(self._trouble, each),
            )
            for each in self._roster.seats()
        ]

    def _trouble(self, seat: Seat) -> str:
        """Return why a pool is not managed, as far as that is known."""
        if self._down is not None:
            detail = self._down.fields["detail"]
            return f"the storage process does not answer: {detail}"
        failures = (seat.failure, *(each.trouble for each in seat.watches().values()))
        return next((str(each) for each in failures if each is not None), "")

    def _poke(self) -> None:
        self._news()

    def _tell(self, code: str, fields: Mapping[str, str]) -> None:
        told: dict[str, Any] = dict(fields)
        with self._store.change() as change:
            change.event(code, **told)


def _is_back(seat: Seat) -> bool:
    """Tell whether a pool is what it was before the agent was started again."""
    reached = {each.storage_domain_id for each in seat.pool.reached()}
    return seat.is_settled and all(
        key in reached or watch.trouble is not None
        for key, watch in seat.watches().items()
    )


def _nobody_listens() -> None:
    """Hear news while the parts are being put together."""
