"""Do what is asked of storage domains, as jobs that survive a restart.

Each verb is called in a job's thread with the id of its storage domain and its request;
each may be run again from its beginning after whatever ended the agent.
"""

import logging
import uuid
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Final

from node.contract.memories import check_stays
from node.errors import Conflict, Error, Failed, NotFound, Unavailable
from node.jobs import AgentStopping, Progress
from node.model.ids import JobId, StorageDomainId
from node.model.job import ENDED
from node.model.storage import (
    Connection,
    DomainClass,
    DomainType,
    StorageDomain,
    check_named,
)
from node.model.storage_requests import (
    ActOnStorageDomain,
    AttachStorageDomain,
    ChangeStorageDomain,
    CreateStorageDomain,
    ImportStorageDomain,
    RemoveStorageDomain,
    RepairStorage,
)
from node.storage import documents
from node.storage.disks import chain_problems
from node.storage.disks.work import Asked, DiskInUse
from node.storage.domains import access as accesses
from node.storage.domains import formatting
from node.storage.domains.access import Access
from node.storage.formats import domain_meta, pool_map
from node.storage.formats.domain_meta import DomainMeta
from node.storage.formats.layout import FILE_MODE, check_id
from node.storage.pools import lease_repair
from node.storage.pools.ground import Ground
from node.storage.pools.seat import Seat
from node.storage.spm import pool_rules

log = logging.getLogger(__name__)

LOOK_AGAIN_S: Final = 0.5
# The two kinds of disks that there are, and that sanlock knows.
SECTOR_BYTES: Final = 512
LARGE_SECTOR_BYTES: Final = 4096
# Each repair is one problem less; an image has at most 20 that are told.
REPAIRS_MAX: Final = 40
# What leaves a volume and its lease where they are.
_KEEPING: Final = frozenset(
    {
        chain_problems.Verb.SET_PARENT,
        chain_problems.Verb.SET_ROLE,
        chain_problems.Verb.SET_LEGALITY,
    }
)


class PoolKindsDiffer(Conflict):
    """A local pool has local storage domains, and a shared one shared ones."""

    code = "pool_kinds_differ"
    remedy = "Choose a storage domain of the same kind, or copy the disks."


class RepairFailed(Failed):
    code = "storage_repair_failed"
    remedy = "Check again; what the message names may need a person."


def create(
    ground: Ground,
    storage_domain_id: str,
    request: CreateStorageDomain,
    progress: Progress,
) -> None:
    """Make an empty storage domain, which belongs to no pool yet."""
    known = StorageDomain(
        StorageDomainId(check_id(storage_domain_id)),
        request.name,
        request.domain_class,
        request.connection,
        description=request.description,
        sector_bytes=request.sector_bytes or SECTOR_BYTES,
        wipe_after_delete=request.wipe_after_delete,
    )
    check_named(known.name)
    domain_meta.check_description(known.name)
    pool_map.check_said(known.description)
    if ground.is_there(known):
        return
    progress.step(10, "reaching the storage")
    try:
        with ground.visiting(request.connection) as place:
            progress.step(40, "making the storage domain")
            if request.sector_bytes is None:
                known = replace(known, sector_bytes=_sector_bytes(ground, known, place))
            _format(ground, known, place)
            ground.roster.add_loose(known)
    except BaseException:
        ground.close(request.connection)
        raise
    ground.tell("storage_domain_created", name=known.name)


def take_in(
    ground: Ground, _object_id: str, request: ImportStorageDomain, progress: Progress
) -> None:
    """Import a storage domain, and attach it if a pool is named."""
    progress.step(10, "reaching the storage")
    with ground.visiting(request.connection):
        known = ground.found(request.connection, request.storage_domain_id)
        key = known.storage_domain_id
        seat = ground.roster.seat_of(key)
        is_new = seat is None
        if seat is None:
            ground.roster.add_loose(known)
        elif not _leads_to(ground.way(seat, key).connection, request.connection):
            raise pool_rules.StorageDomainCopied(
                f"{known.name} is in pool {seat.wanted.name}, and lies elsewhere"
            )
    if is_new:
        ground.tell("storage_domain_imported", name=known.name)
    if request.pool_id is None:
        return
    progress.step(40, "attaching the storage domain")
    _attach(ground, key, ground.roster.seat(request.pool_id), None, request.is_forced)
    progress.step(70, "activating the storage domain")
    activate(ground, key, ActOnStorageDomain(), progress)


def attach(
    ground: Ground,
    storage_domain_id: str,
    request: AttachStorageDomain,
    progress: Progress,
) -> None:
    """Make a storage domain part of a pool, in maintenance at first."""
    seat = ground.manager(ground.roster.seat(request.pool_id))
    if request.connection is not None and not ground.knows(storage_domain_id):
        progress.step(10, "reaching the storage")
        key = StorageDomainId(storage_domain_id)
        with ground.visiting(request.connection):
            found = ground.found(request.connection, key)
        ground.roster.add_loose(
            replace(
                found,
                description=request.description,
                wipe_after_delete=request.wipe_after_delete,
            )
        )
    progress.step(40, "attaching the storage domain")
    _attach(ground, storage_domain_id, seat, request.generation, is_forced=False)


def change(
    ground: Ground,
    storage_domain_id: str,
    request: ChangeStorageDomain,
    progress: Progress,
) -> None:
    """Call a storage domain of a pool something else, or reach it another way."""
    seat = ground.manager(ground.roster.seat_with(storage_domain_id))
    before = ground.way(seat, storage_domain_id)
    connection = request.connection or before.connection
    if connection.kind is not before.connection.kind:
        raise PoolKindsDiffer(f"{before.name} is of kind {before.connection.kind}")
    wanted = pool_rules.Change(
        request.name, request.description, request.wipe_after_delete
    )
    if wanted.name is not None:
        check_named(wanted.name)
        domain_meta.check_description(wanted.name)
    pool_map.check_said(wanted.description or "")
    if connection != before.connection and seat.wanted.is_active(storage_domain_id):
        raise pool_rules.StorageDomainActive(f"{before.name} is active")
    progress.step(20, "reaching the storage")
    try:
        with ground.visiting(connection):
            ground.found(connection, before.storage_domain_id)
        with seat.visiting(replace(before, connection=connection)) as access:
            progress.step(50, "writing what it is")
            seat.pool.change(access, wanted, request.generation)
    finally:
        for each in {before.connection, connection}:
            ground.close(each)
    seat.follow()
    name = before.name if wanted.name is None else wanted.name
    ground.tell("storage_domain_changed", name=name)


def activate(
    ground: Ground,
    storage_domain_id: str,
    request: ActOnStorageDomain,
    progress: Progress,
) -> None:
    """Let the pool's nodes use a storage domain."""
    seat = ground.manager(ground.roster.seat_with(storage_domain_id))
    known = ground.way(seat, storage_domain_id)
    progress.step(50, "joining the storage domain")
    with seat.visiting(known) as access:
        seat.pool.connect(access)
        seat.pool.activate(storage_domain_id, request.generation)
    ground.look(seat, storage_domain_id, progress)
    ground.tell("storage_domain_activated", name=known.name)


def maintain(
    ground: Ground,
    storage_domain_id: str,
    request: ActOnStorageDomain,
    progress: Progress,
) -> None:
    """Let no node use a storage domain any more.

    Guests are looked for on all nodes, and once more when the map says that none may
    start: one that started meanwhile keeps its storage domain.
    """
    seat = ground.manager(ground.roster.seat_with(storage_domain_id))
    ground.check_idle(storage_domain_id)
    disk_ids = ground.disks_on(seat, storage_domain_id)
    if seat.wanted.is_active(storage_domain_id):
        _check_unused(ground, disk_ids, may_be_dead=storage_domain_id in seat.ill())
        _write_ovf(seat, storage_domain_id)
    seat.pool.maintain(storage_domain_id, request.generation)
    try:
        _check_unused(ground, disk_ids, may_be_dead=True)
    except DiskInUse:
        seat.pool.activate(storage_domain_id)
        raise
    finally:
        seat.follow()
    known = seat.find(storage_domain_id)
    ground.tell(
        "storage_domain_in_maintenance",
        name=known.name if known is not None else storage_domain_id,
    )


def detach(
    ground: Ground,
    storage_domain_id: str,
    request: ActOnStorageDomain,
    progress: Progress,
) -> None:
    """Take a storage domain out of its pool; this node keeps looking after it."""
    leaving = ground.roster.leaving(storage_domain_id)
    seat = ground.roster.seat_of(storage_domain_id)
    if seat is None and leaving is not None and leaving.pool_id is not None:
        seat = ground.roster.seat(leaving.pool_id)  # the map has let it go before
    seat = ground.manager(seat or ground.roster.seat_with(storage_domain_id))
    known = leaving or ground.way(seat, storage_domain_id)
    if not request.is_forced:
        check_stays(storage_domain_id, (each.vm for each in seat.stored.vms))
    ground.roster.note_leaving(known, seat.wanted.pool_id)
    try:
        _detach(ground, seat, known, request)
    except AgentStopping:
        raise
    except BaseException:
        ground.roster.forget_leaving(known)
        raise
    ground.roster.add_loose(known)
    name = seat.wanted.name
    ground.tell("storage_domain_detached", name=known.name, pool=name)


def remove(
    ground: Ground,
    storage_domain_id: str,
    request: RemoveStorageDomain,
    progress: Progress,
) -> None:
    """Forget a storage domain of no pool; destroy it if that is asked for."""
    seat = ground.roster.seat_of(storage_domain_id)
    if seat is not None:
        raise formatting.StillAttached(
            f"{storage_domain_id} belongs to pool {seat.wanted.name}",
            pool_id=seat.wanted.pool_id,
        )
    if storage_domain_id not in ground.roster.loose():
        return
    known = ground.roster.find_loose(storage_domain_id)
    if request.is_formatted:
        progress.step(20, "destroying what is on it")
        with ground.visiting(known.connection) as place:
            access = ground.bare(known, place)
            formatting.destroy(ground.world.guard, access, ground.world.node_id)
    ground.roster.drop_loose(storage_domain_id)
    ground.close(known.connection)
    ground.tell("storage_domain_removed", name=known.name)


def write_ovf(
    ground: Ground,
    storage_domain_id: str,
    request: ActOnStorageDomain,
    progress: Progress,
) -> None:
    """Write the VMs of a storage domain into its OVF_STORE."""
    seat = ground.manager(ground.roster.seat_with(storage_domain_id))
    seat.ovf_stores.write(storage_domain_id)


def repair(
    ground: Ground, storage_domain_id: str, request: RepairStorage, progress: Progress
) -> None:
    """Mend all that is offered, each after a look of its own."""
    seat = ground.manager(ground.roster.seat_with(storage_domain_id))
    access = seat.pool.access(storage_domain_id)
    progress.step(1, "reading the leases and the disks")
    now_s = int(ground.world.clock.now().timestamp())
    with seat.pool.spm.work() as term:
        told = seat.ovf_stores.all_vms
        who = (ground.world.guard, access, term, seat.vms)
        lease_repair.mend(*who, now_s, documents=told)
    found = seat.work.check(storage_domain_id)
    ill = list(dict.fromkeys(each.image_id for each in found if each.repair))
    wanted = [each for each in ill if request.disk_id in (None, each)]
    for number, image_id in enumerate(wanted):
        progress.step(1 + 98 * number // len(wanted), f"mending disk {image_id}")
        _mend(ground, seat, access, image_id, progress)


def _write_ovf(seat: Seat, storage_domain_id: str) -> None:
    """Let a storage domain tell of its VMs before it goes, unless it is dead."""
    if storage_domain_id in seat.ill():
        return
    try:
        seat.ovf_stores.write(storage_domain_id, is_idle=True)
    except AgentStopping:
        raise
    except Error as error:
        # The definitions themselves lie there, and go with it.
        log.warning("OVF_STORE of %s is older: %s", storage_domain_id, error)


def _check_unused(
    ground: Ground, disk_ids: frozenset[str], *, may_be_dead: bool
) -> None:
    """Refuse what guests run with; what is dead can be asked nothing. DiskInUse."""
    try:
        ground.check_unused(disk_ids)
    except (Unavailable, NotFound) as error:
        if not may_be_dead:
            raise
        log.info("who runs with disks is not known: %s", error)


def _sector_bytes(ground: Ground, known: StorageDomain, place: PurePosixPath) -> int:
    """Return the least that the storage reads at once, past all caches."""
    files = ground.bare(known, place).files_above(ground.world.guard)
    path = str(place / f".probe-{known.storage_domain_id}")
    with formatting.explained(place):
        files.make_file(path, LARGE_SECTOR_BYTES, FILE_MODE, is_preallocated=False)
    try:
        # Of a hole, file systems on any disk give pieces of any size.
        files.write_at(path, 0, bytes(LARGE_SECTOR_BYTES))
        files.read_at(path, 0, SECTOR_BYTES)
    except Error as error:
        if error.fields.get("errno") != "EINVAL":
            raise
        return LARGE_SECTOR_BYTES
    finally:
        files.remove(path)
    return SECTOR_BYTES


def _format(ground: Ground, known: StorageDomain, place: PurePosixPath) -> None:
    world, connection = ground.world, known.connection
    access = ground.bare(known, place)
    stored = documents.stored_class(known.domain_class)
    is_data = known.domain_class is DomainClass.DATA
    meta = DomainMeta(
        known.storage_domain_id,
        accesses.stored_type(connection.kind),
        stored,
        known.name,
        access.source,
        version=domain_meta.VERSION if is_data else 0,
        sector_size=access.sector_bytes,
        alignment=access.alignment_bytes,
    )
    now_s = int(world.clock.now().timestamp())
    formatting.make(
        world.guard,
        access,
        meta,
        now_s,
        world.reach.local_folders,
        world.options.io_timeout_s,
    )


def _attach(
    ground: Ground,
    storage_domain_id: str,
    seat: Seat,
    generation: int | None,
    is_forced: bool,
) -> None:
    known = seat.find(storage_domain_id)
    known = known or ground.roster.find_loose(storage_domain_id)
    if (known.connection.kind is DomainType.LOCALFS) is not seat.wanted.is_local:
        raise PoolKindsDiffer(
            f"pool {seat.wanted.name} cannot have a storage domain of kind "
            f"{known.connection.kind}"
        )
    with seat.visiting(known) as access:
        seat.pool.attach(access, generation, is_forced, pool_rules.said_of(known))
    seat.follow()
    ground.roster.drop_loose(storage_domain_id)
    pool = seat.wanted.name
    ground.tell("storage_domain_attached", name=known.name, pool=pool)


def _leads_to(ours: Connection, theirs: Connection) -> bool:
    """Tell whether two ways lead to one place, however it is mounted."""
    return (ours.kind, ours.address, ours.path) == (
        theirs.kind,
        theirs.address,
        theirs.path,
    )


def _detach(
    ground: Ground, seat: Seat, known: StorageDomain, request: ActOnStorageDomain
) -> None:
    key, generation = known.storage_domain_id, request.generation
    try:
        with seat.visiting(known) as access:
            seat.pool.connect(access)
            seat.pool.detach(key, generation, request.is_forced)
    except Unavailable:
        if not request.is_forced:
            raise
        # It cannot be reached: the map forgets it, itself it remembers.
        seat.pool.detach(key, generation, is_forced=True)


def _mend(
    ground: Ground, seat: Seat, access: Access, image_id: str, progress: Progress
) -> None:
    """Mend one disk's problems, one after the other."""
    key = StorageDomainId(access.storage_domain_id)
    for number in range(REPAIRS_MAX):
        found = [
            each
            for each in seat.work.check(key)
            if each.image_id == image_id and each.repair
        ]
        if not found:
            return
        name = uuid.uuid5(uuid.UUID(progress.job.job_id), f"{image_id} {number}")
        asked = Asked(JobId(str(name)), progress.job.correlation_id)
        finding = found[0]
        kind = chain_problems.Kind(finding.kind)
        is_kept = all(step.verb in _KEEPING for step in finding.repair)
        # Who fills a volume for a manager whose journal is lost still has its lease.
        with seat.data.fencing(access, image_id, is_kept=is_kept):
            job = seat.disks.repair(image_id, kind, finding.volume_id, asked, key)
            while job.state not in ENDED:
                progress.check()
                job = ground.world.jobs.get(job.job_id, LOOK_AGAIN_S)
        if job.error is not None:
            raise RepairFailed(
                f"disk {image_id}: {job.error.message}", disk_id=image_id
            )
