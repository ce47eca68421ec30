"""Do what is asked of pools, as jobs that survive a restart; see `domain_verbs`."""

import logging
from dataclasses import replace
from typing import Final

from node.contract.volumes import PoolUnknown
from node.errors import Conflict, Unavailable
from node.jobs import Progress
from node.model.ids import PoolId
from node.model.storage_requests import (
    ActOnPool,
    BecomeSpm,
    ConnectPool,
    CreatePool,
    LeaveSpm,
    MoveMaster,
)
from node.storage.domains.access import LOOK_S
from node.storage.formats.layout import check_id
from node.storage.pools.ground import Ground
from node.storage.pools.seat import Seat
from node.storage.pools.wanted import WantedPool
from node.storage.spm import structure_lease
from node.storage.spm.pool_rules import PoolExists, said_of
from node.storage.spm.states import State
from node.storage.spm.structure_lease import SpmHeld, SpmMoved

log = logging.getLogger(__name__)

# Joining a lockspace takes 30 s, and minutes after a crash.
JOIN_S: Final = 300.0
# The holder looks every 10 s whether it is asked, and finishes its work.
ASK_S: Final = 120.0
LOOK_AGAIN_S: Final = 0.5


class PoolNotJoined(Unavailable):
    """Nothing of the pool could be used within the time."""

    code = "pool_not_joined"
    remedy = (
        "The node goes on trying. Check its way to the storage, and that sanlock runs; "
        "or disconnect it from the pool."
    )


class PoolManagedHere(Conflict):
    """This node manages the pool."""

    code = "pool_managed_here"
    remedy = "Let another node manage the pool first."


class LocalPoolStays(Conflict):
    """A node manages the pool of its own disk for ever."""

    code = "local_pool_stays"
    remedy = "Remove its disks instead."


def create(
    ground: Ground, pool_id: str, request: CreatePool, progress: Progress
) -> None:
    """Make a pool of one storage domain, its master, and manage it."""
    for each in ground.roster.seats():
        if each.wanted.pool_id == pool_id:
            if each.find(request.master) is None:
                name = each.wanted.name
                raise PoolExists(f"{name} is made of other storage domains")
            return
    known = ground.roster.find_loose(request.master)
    progress.step(10, "joining the storage domain")
    access = ground.world.reach.open(known)
    seat = ground.roster.new_seat(
        WantedPool(
            PoolId(check_id(pool_id)),
            request.name,
            access.is_local,
            domains=(known,),
        )
    )
    seat.pool.create(access, request.name, said_of(known))
    ground.roster.take(seat)
    ground.look(seat, request.master, progress)
    ground.tell("pool_created", name=request.name)


def connect(
    ground: Ground, pool_id: str, request: ConnectPool, progress: Progress
) -> None:
    """Join a pool: reach one of its storage domains, and by its map all others.

    What cannot be mended by waiting ends it, and leaves nothing of a new pool.
    """
    is_new = False
    try:
        seat = ground.roster.seat(pool_id)
    except PoolUnknown:
        key, is_new = PoolId(check_id(pool_id)), True
        domains = tuple(replace(each, pool_id=key) for each in request.domains)
        seat = ground.roster.new_seat(WantedPool(key, request.name, domains=domains))
        ground.roster.take(seat)
    until = ground.world.clock.monotonic() + JOIN_S
    progress.step(10, "reaching the pool's storage domains")
    while not _is_joined(seat):
        if (trouble := seat.trouble()) is not None:
            if is_new:
                _leave(ground, seat)
            raise trouble
        if ground.world.clock.monotonic() >= until:
            raise PoolNotJoined(f"pool {pool_id} is not joined after {JOIN_S:g} s")
        progress.pause(LOOK_AGAIN_S)
    if is_new:
        node, pool = ground.world.node_name, seat.wanted.name
        ground.tell("pool_joined", node=node, pool=pool)


def disconnect(
    ground: Ground, pool_id: str, _request: ActOnPool, progress: Progress
) -> None:
    """Leave a pool that this node does not manage."""
    try:
        seat = ground.roster.seat(pool_id)
    except PoolUnknown:
        return
    if seat.wanted.is_local:
        raise LocalPoolStays("this is the pool of the node's own disk")
    if seat.pool.spm.state is not State.FREE:
        raise PoolManagedHere(f"this node manages pool {seat.wanted.name}")
    for key in seat.watches():
        ground.check_idle(key)
    progress.step(20, "leaving the pool's storage domains")
    _leave(ground, seat)
    node, pool = ground.world.node_name, seat.wanted.name
    ground.tell("pool_left", node=node, pool=pool)


def move_master(
    ground: Ground, pool_id: str, request: MoveMaster, progress: Progress
) -> None:
    """Make another storage domain the master, also where the old one is dead."""
    seat, target = ground.roster.seat(pool_id), request.storage_domain_id
    known = ground.way(seat, target)
    pool = seat.wanted.name
    if request.is_reconstruction:
        progress.step(20, "reconstructing the master")
        seat.pool.reconstruct(target)
        code = "pool_master_reconstructed"
    else:
        ground.manager(seat)
        progress.step(20, "moving the master")
        seat.pool.move_master(target, request.generation)
        code = "pool_master_moved"
    seat.poke()
    ground.tell(code, storage_domain=known.name, pool=pool)


def become(
    ground: Ground, pool_id: str, request: BecomeSpm, progress: Progress
) -> None:
    """Take the lease and manage the pool; ask its holder to leave if wanted."""
    seat = ground.roster.seat(pool_id)
    until = ground.world.clock.monotonic() + ASK_S
    progress.step(10, "taking the lease")
    while True:
        try:
            seat.pool.spm.become(request.lease_version)
        except SpmHeld:
            owner = seat.sight.owner
            is_late = ground.world.clock.monotonic() >= until
            if not request.ask_holder or owner is None or is_late:
                raise
            progress.step(20, "asking the holder to leave")
            seat.candidacy.ask(owner.version)
            request = replace(request, lease_version=None)
            seat.poke()
            progress.pause(LOOK_AGAIN_S)
        else:
            break
    seat.poke()


def leave(ground: Ground, pool_id: str, request: LeaveSpm, progress: Progress) -> None:
    """Finish what is under way, and manage the pool no more."""
    seat = ground.roster.seat(pool_id)
    if seat.wanted.is_local:
        raise LocalPoolStays("nobody else can manage this pool")
    version = seat.pool.spm.view().lease_version
    if version and request.lease_version not in (None, version):
        raise SpmMoved(
            f"the lease has version {version}, not {request.lease_version}",
            lease_version=version,
        )
    progress.step(10, "finishing what is under way")
    seat.pool.spm.leave(request.stand_back_s)
    seat.poke()


def _is_joined(seat: Seat) -> bool:
    try:
        seat.note_joined()
    except Unavailable:
        return False  # the storage process is started again
    return seat.is_joined


def _leave(ground: Ground, seat: Seat) -> None:
    """Take part no more, and leave nothing behind."""
    seat.finish(LOOK_S)
    try:
        for access in seat.pool.reached():
            structure_lease.leave(ground.world.guard, access)
    except BaseException:
        ground.roster.renew(seat)
        raise
    ground.roster.leave(seat.wanted.pool_id)
    for known in seat.wanted.reachable():
        ground.close(known.connection)
