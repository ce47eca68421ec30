"""Let disks come in and go out: the verbs of transfers.

Each transfer has a course that a thread brings to its end (`course`); what is
asked is written down first. Only the manager of a disk's pool serves it.
"""

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from node.clock import rfc3339
from node.contract.memories import check_free
from node.errors import Conflict, Error
from node.model.ids import TransferId
from node.model.storage import (
    Allocation,
    DiskFormat,
    Transfer,
    TransferDirection,
    TransferPhase,
)
from node.model.storage_requests import (
    ActOnTransfer,
    CreateTransfer,
    FinalizeTransfer,
    TransferList,
)
from node.storage.disks import tasks as disk_tasks
from node.storage.disks.sights import ImageSight
from node.storage.formats.layout import check_id
from node.storage.operations import facts, upload
from node.storage.operations.facts import Disk
from node.storage.pools import memories
from node.storage.pools.roster import Roster
from node.storage.pools.seat import Seat
from node.storage.pools.world import World
from node.storage.process.protocol import StepState
from node.storage.transfers import course as courses
from node.storage.transfers import rules
from node.storage.transfers.course import Course, ImageDoor, Parts, TicketDoor
from node.storage.transfers.ledger import Ledger, TransferUnknown
from node.storage.transfers.rules import Kept
from node.store import Store

log = logging.getLogger(__name__)

# How often we look for qemu-nbds that no transfer knows.
TIDY_S: Final = 60.0


class TransferIdTaken(Conflict):
    """Another transfer has that id."""

    code = "transfer_id_taken"
    remedy = "Choose a new random UUID for each transfer."


def _random_id() -> str:
    return str(uuid.uuid4())


class Transfers:
    """All transfers of this node. Any thread may call."""

    def __init__(
        self,
        store: Store,
        world: World,
        roster: Roster,
        doors: tuple[TicketDoor, ImageDoor],
        folder: Path,
        address: tuple[str, int],
        new_ticket: Callable[[], str] = _random_id,
    ) -> None:
        """`folder` holds the qemu-nbds' sockets; `address` is where clients come."""
        self._world = world
        self._roster = roster
        self._ledger = Ledger(store, world.clock)
        self._parts = Parts(world, roster, self._ledger, *doors, folder)
        self._base = _base(*address)
        self._new_ticket = new_ticket
        self._lock = threading.Lock()
        self._courses: dict[str, Course] = {}
        self._is_stopped = threading.Event()
        self._tidying = threading.Thread(
            target=self._tidy, name="transfers", daemon=True
        )
        self._lock_again()

    def start(self) -> None:
        """Go on with what had not ended; call it after the storage has started."""
        with self._lock:
            for kept in self._running():
                self._begin(kept)
        self._tidying.start()

    def stop(self, deadline_s: float) -> None:
        """Look after nothing more; clients go on with what they have."""
        self._is_stopped.set()
        with self._lock:
            courses = tuple(self._courses.values())
        for course in courses:
            course.stop(0.0)
        for course in courses:
            course.stop(deadline_s)

    def transfer_list(self) -> TransferList:
        kept = self._ledger.all().values()
        return TransferList(tuple(each.transfer for each in kept))

    def transfer_show(self, transfer_id: TransferId) -> Transfer:
        return self._ledger.get(transfer_id).transfer

    def transfer_create(self, request: CreateTransfer) -> Transfer:
        """Take one on; asked twice with one id it is one transfer."""
        known = self._known(request)
        if known is not None:
            return known
        rules.check(request)
        check_id(request.transfer_id)
        is_upload = request.direction is TransferDirection.UPLOAD
        seat = self._roster.seat_of_disk(request.disk_id)
        if is_upload:
            check_free(request.disk_id, (each.vm for each in seat.stored.vms))
            memories.check_unseen(request.disk_id, seat.stored, seat.vms.find)
        sight = seat.disks.sight(request.disk_id, is_any=not is_upload)
        kept = self._kept(seat, sight, request)
        with self._lock:
            known = self._known(request)
            if known is not None:
                return known
            seat.work.hold(courses.claim(kept))
            try:
                if request.snapshot_id is not None:  # it may be merged by now
                    where = (kept.storage_domain_id, kept.volume_id)
                    seat.work.check_kept(request.disk_id, *where)
                self._ledger.add(kept)
            except BaseException:
                seat.work.let_go(kept.transfer_id)
                raise
            self._begin(kept)
        self._world.tell("transfer_started", {"name": kept.transfer.name})
        log.info(
            "transfer %s begins: %s of disk %s",
            *(kept.transfer_id, request.direction, request.disk_id),
        )
        return kept.transfer

    def transfer_extend(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        """Begin the time anew that nobody uses it."""
        kept = self._act("extend", transfer_id, lambda each: each)
        if kept.transfer.phase is TransferPhase.TRANSFERRING:
            # Installed again, the same ticket begins its time anew.
            self._parts.tickets.install(courses.ticket(kept, self._parts))
        return kept.transfer

    def transfer_pause(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        return self._act("pause", transfer_id, lambda each: each).transfer

    def transfer_resume(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        return self._act("resume", transfer_id, lambda each: each).transfer

    def transfer_finalize(
        self, transfer_id: TransferId, request: FinalizeTransfer
    ) -> Transfer:
        def expect(kept: Kept) -> Kept:
            return replace(kept, expected_sha256=request.sha256)

        return self._act("finalize", transfer_id, expect).transfer

    def transfer_cancel(
        self, transfer_id: TransferId, request: ActOnTransfer
    ) -> Transfer:
        def cancel(kept: Kept) -> Kept:
            return replace(kept, is_cancelled=True)

        return self._act("cancel", transfer_id, cancel).transfer

    def _lock_again(self) -> None:
        """Lock the disks of what had not ended before anybody can ask for them."""
        for kept in self._running():
            try:
                seat = self._roster.seat(kept.pool_id)
                seat.work.hold_again(courses.claim(kept))
            except Error as error:
                log.warning("transfer %s holds no disk: %s", kept.transfer_id, error)

    def _running(self) -> Iterable[Kept]:
        for kept in self._ledger.all().values():
            if kept.transfer.phase not in rules.ENDED:
                yield kept

    def _act(self, verb: str, transfer_id: str, change: Callable[[Kept], Kept]) -> Kept:
        """Write down what is wanted, and let its course bring it about."""
        at = rfc3339(self._world.clock.now())

        def act(kept: Kept) -> Kept:
            phase = rules.after(verb, kept.transfer)
            if phase is kept.transfer.phase:
                return kept
            return change(rules.moved(kept, phase, at))

        kept = self._ledger.change(transfer_id, act)
        with self._lock:
            course = self._courses.get(transfer_id)
        if course is not None:
            course.poke()
        return kept

    def _known(self, request: CreateTransfer) -> Transfer | None:
        """Return the transfer that was asked for before; TransferIdTaken."""
        try:
            kept = self._ledger.get(request.transfer_id)
        except TransferUnknown:
            return None
        asked = replace(request, correlation_id=kept.request.correlation_id)
        if asked != kept.request:
            raise TransferIdTaken(
                f"transfer {request.transfer_id} is another one",
                transfer_id=request.transfer_id,
            )
        return kept.transfer

    def _kept(self, seat: Seat, sight: ImageSight, request: CreateTransfer) -> Kept:
        """Return a new transfer; what may not be sent or fetched is refused."""
        access = seat.pool.access(sight.storage_domain_id)
        place = seat.catalog.place(access, request.disk_id)
        disk = place.require()
        volume_id = _volume(seat, disk, request)
        is_file = request.disk_format is DiskFormat.QCOW2
        if request.direction is TransferDirection.UPLOAD:
            upload.check(place, volume_id, is_file=is_file)
        else:
            facts.check_usable(disk)
            if is_file:
                upload.check_file(disk, volume_id)
        size_bytes = facts.meta_of(disk, volume_id).capacity_bytes
        if is_file:
            size_bytes = self._file_bytes(seat, sight, volume_id, request, size_bytes)
        ticket_id = self._new_ticket()
        transfer = Transfer(
            request.transfer_id,
            request.disk_id,
            request.direction,
            TransferPhase.INITIALIZING,
            f"{self._base}/images/{ticket_id}",
            size_bytes,
            disk_format=request.disk_format,
            inactivity_s=request.inactivity_s,
            since=rfc3339(self._world.clock.now()),
            snapshot_id=request.snapshot_id,
            timeout_policy=request.timeout_policy,
            node_id=self._world.node_id,
            name=sight.name,
        )
        return Kept(
            transfer,
            request,
            ticket_id,
            seat.pool.pool_id,
            sight.storage_domain_id,
            volume_id,
            _format(disk, volume_id),
            sight.allocation is Allocation.THIN,
            sight.is_template,
        )

    def _file_bytes(
        self,
        seat: Seat,
        sight: ImageSight,
        volume_id: str,
        request: CreateTransfer,
        size_bytes: int,
    ) -> int:
        """Return how large the file is that travels, at most."""
        if request.direction is TransferDirection.UPLOAD:
            bound = rules.file_bytes(size_bytes)
            return min(bound, request.size_bytes or bound)
        access = seat.pool.access(sight.storage_domain_id)
        path = str(access.layout.volume(request.disk_id, volume_id))
        return access.files(self._world.guard).stat(path).size_bytes

    def _begin(self, kept: Kept) -> None:
        course = Course(kept.transfer_id, self._parts)
        over = [key for key, each in self._courses.items() if each.is_over]
        for key in over:
            del self._courses[key]
        self._courses[kept.transfer_id] = course
        course.start()

    def _tidy(self) -> None:
        """End the qemu-nbds that no transfer knows: a store may be lost."""
        while not self._is_stopped.is_set():
            try:
                self._end_strays()
            except Error as error:
                log.info("transfers are not tidied: %s", error)
            self._is_stopped.wait(TIDY_S)

    def _end_strays(self) -> None:
        guard = self._world.guard
        for step in guard.steps():
            transfer_id = step.step_id.removeprefix(rules.STEPS).partition(".")[0]
            is_ours = step.step_id.startswith(rules.STEPS)
            if is_ours and _is_stray(self._ledger.all().get(transfer_id), step.step_id):
                log.warning("step %s belongs to no transfer", step.step_id)
                if guard.cancel(step.step_id).state is StepState.ENDED:
                    guard.forget(step.step_id)


def _is_stray(kept: Kept | None, step_id: str) -> bool:
    if kept is None or kept.transfer.phase in rules.ENDED:
        return True
    return not step_id.startswith(kept.step_id)


def _volume(seat: Seat, disk: Disk, request: CreateTransfer) -> str:
    """Return the volume that is sent or fetched; SnapshotHasNotDisk."""
    if request.snapshot_id is None:
        return disk_tasks.leaf_of(disk)
    found = seat.volume_in(request.snapshot_id, request.disk_id)
    if found is None or found not in disk.own():
        raise rules.SnapshotHasNotDisk(
            f"snapshot {request.snapshot_id} has no volume of disk {request.disk_id}",
            snapshot_id=request.snapshot_id,
        )
    return found


def _base(host: str, port: int) -> str:
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


_FORMATS: Final[Mapping[str, DiskFormat]] = {
    "raw": DiskFormat.RAW,
    "qcow2": DiskFormat.QCOW2,
}


def _format(disk: Disk, volume_id: str) -> DiskFormat:
    return _FORMATS[facts.QEMU_FORMATS[facts.meta_of(disk, volume_id).volume_format]]
