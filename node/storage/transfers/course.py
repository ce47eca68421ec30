"""Bring one transfer from its begin to its end, whoever is killed meanwhile.

A thread of its own looks at what is wanted and at what is there, once a second:

    wanted            there shall be
    initializing      an ILLEGAL volume (upload), a qemu-nbd under the manager's lease,
                      a ticket at the transfer server; then it is `transferring`
    transferring      all of these; else it pauses, and says why
    paused_*          the lock on the disk alone: the manager may leave meanwhile
    finalizing_*      nothing, and after a success a volume that may be used

So all may be done again after a restart of the agent. A node that manages the pool no
more gives the transfer up; the next manager's disk is unlocked, and after an upload
ILLEGAL until another one ends well.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from node import jobs, wire
from node.clock import rfc3339
from node.errors import Busy, Conflict, Error, Failed, NotFound, Unavailable
from node.model import messages
from node.model.ids import DiskId, JobId
from node.model.job import ENDED as JOB_ENDED
from node.model.job import JobState
from node.model.reason import Reason
from node.model.storage import TransferPhase
from node.storage.disks import tasks as disk_tasks
from node.storage.disks.locks import Claim
from node.storage.disks.tasks import Task
from node.storage.disks.work import Asked, StorageDomainInactive
from node.storage.domains.catalog import Catalog
from node.storage.operations import facts
from node.storage.pools.roster import Roster
from node.storage.pools.seat import Seat
from node.storage.pools.world import World
from node.storage.process.protocol import Step, StepState
from node.storage.process.steps import StepUnknown
from node.storage.spm.states import State
from node.storage.spm.term import NotSpm
from node.storage.transfers import rules, tasks
from node.storage.transfers.ledger import Ledger
from node.storage.transfers.rules import Kept
from node.transfer.client import TransferServerSilent
from node.transfer.tickets import (
    Op,
    TicketInfo,
    TicketInUse,
    TicketRequest,
    TicketUnknown,
)

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
_START_S: Final = 20.0  # of qemu-nbd, which opens a chain of volumes
_POLL_S: Final = 0.05
# So long a transfer waits for what may be back in a moment, then it pauses.
_PATIENCE_S: Final = 30.0
_INFO_S: Final = 30.0  # of the look at a file that came
_JOB_LOOK_S: Final = 1.0


class QemuNbdEnded(Failed):
    code = "qemu_nbd_ended"
    remedy = "Resume the transfer; if that fails, read the log of skerry-storage."


class UploadDiffers(Conflict):
    """What lies there is not what was to be sent."""

    code = "upload_differs"
    remedy = "Upload the disk again."


class _Stopping(Exception):
    """The agent ends: go on when it has started again."""


class TicketDoor(Protocol):
    def install(self, request: TicketRequest) -> None: ...
    def info(self, ticket_id: str) -> TicketInfo: ...
    def extend(self, ticket_id: str, timeout_s: int) -> None: ...
    def remove(self, ticket_id: str) -> None: ...


class ImageDoor(Protocol):
    def flush(self, ticket_id: str) -> None: ...
    def checksum(self, ticket_id: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Parts:
    world: World
    roster: Roster
    ledger: Ledger
    tickets: TicketDoor
    images: ImageDoor
    folder: Path  # of the qemu-nbds' sockets


class Course:
    """One transfer on its way. Any thread may ask; its own does."""

    def __init__(self, transfer_id: str, parts: Parts) -> None:
        self.transfer_id = transfer_id
        self._parts = parts
        self._guard = parts.world.guard
        self._wake = threading.Event()
        self._is_stopped = False
        self._holder: Seat | None = None  # where we have locked the disk
        self._is_clear = False  # no ticket and no qemu-nbd of ours is there
        self._trouble_since: float | None = None
        self._rest_began = "", 0.0  # which pause, and when this agent saw it
        self._extended_at: float | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"transfer-{transfer_id[:8]}", daemon=True
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """Look after it no more; its qemu-nbd and its ticket stay."""
        self._is_stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(deadline_s)

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def poke(self) -> None:
        """Look now: something else is wanted."""
        self._wake.set()

    @property
    def kept(self) -> Kept:
        return self._parts.ledger.get(self.transfer_id)

    def _run(self) -> None:
        while not self._is_stopped:
            self._wake.clear()
            try:
                self._look()
            except (_Stopping, jobs.AgentStopping):
                return
            except Error as error:  # the store is full, or broken
                log.error("transfer %s waits: %s", self.transfer_id, error)
            if self.kept.transfer.phase in rules.ENDED:
                return
            self._wake.wait(LOOK_S)

    def _look(self) -> None:
        """Go on once; what stands in the way is coped with."""
        kept = self.kept
        try:
            self._go_on(kept)
            self._trouble_since = None
        except (_Stopping, jobs.AgentStopping):
            raise
        except Error as error:
            self._cope(kept, error)
        except Exception:
            log.exception("transfer %s met a bug", self.transfer_id)
            self._fail(kept, "transfer_failed", "a bug; see the agent's log")

    def _go_on(self, kept: Kept) -> None:
        match kept.transfer.phase:
            case TransferPhase.INITIALIZING:
                self._open(kept)
            case TransferPhase.TRANSFERRING:
                self._watch(kept)
            case TransferPhase.PAUSED_USER | TransferPhase.PAUSED_SYSTEM:
                self._rest(kept)
            case TransferPhase.FINALIZING_SUCCESS:
                self._finish(kept)
            case _:
                self._abandon(kept)

    # phases

    def _open(self, kept: Kept) -> None:
        """Have the disk closed to guests, served and ticketed."""
        seat = self._require_manager(kept)
        if seat is None:
            return
        self._hold(seat, kept)
        if kept.is_upload and not kept.is_begun:
            self._do(seat, kept, "begin", tasks.begin(kept))
            kept = self._keep(lambda each: replace(each, is_begun=True))
        if self._steps(kept) - {kept.step_id}:
            self._is_clear = False
            self._clear(kept)  # who resumes may be faster than we are
        self._is_clear = False
        self._serve(seat, kept)
        self._parts.tickets.install(ticket(kept, self._parts))
        self._move(kept, TransferPhase.TRANSFERRING)

    def _watch(self, kept: Kept) -> None:
        """See whether all is there that a client needs, and whether one comes."""
        seat = self._require_manager(kept)
        if seat is None:
            return
        self._hold(seat, kept)
        step = self._step(kept)
        if step is None or step.state is StepState.ENDED:
            self._note_last(kept)
            self._pause(kept, "transfer_interrupted", _why(step))
            return
        info = self._parts.tickets.info(kept.ticket_id)
        self._prolong(kept)
        self._note(kept, info)
        phase = rules.unused(kept, 0.0 if info.active else float(info.idle_time))
        if phase is TransferPhase.PAUSED_SYSTEM:
            self._pause(kept, "transfer_unused", "")
        elif phase is not None:
            self._fail(kept, "transfer_unused", "", is_cancelled=True)

    def _rest(self, kept: Kept) -> None:
        """Keep the disk locked, and nothing else."""
        self._clear(kept)
        seat = self._require_manager(kept)
        if seat is None:
            return
        self._hold(seat, kept)
        since, now_s = kept.transfer.since, self._parts.world.clock.monotonic()
        if self._rest_began[0] != since:
            self._rest_began = since, now_s  # the wall clock may be set meanwhile
        if now_s - self._rest_began[1] >= rules.PAUSED_MAX_S:
            self._fail(kept, "transfer_unused", "", is_cancelled=True)

    def _finish(self, kept: Kept) -> None:
        """Believe what came, or say why not."""
        seat = self._require_manager(kept)
        if seat is None:
            return
        self._hold(seat, kept)
        if not kept.is_flushed and not self._settle_data(kept):
            return
        self._clear(kept)
        if kept.is_upload:
            if kept.is_file:
                self._look_at_file(seat, kept)
            self._do(seat, kept, "end", tasks.end(kept))
        self._end(kept, TransferPhase.FINISHED_SUCCESS)

    def _settle_data(self, kept: Kept) -> bool:
        """Have all data on the storage and summed up; False: it was interrupted."""
        step = self._step(kept)
        if step is None or step.state is StepState.ENDED:
            self._pause(kept, "transfer_interrupted", _why(step))
            return False
        self._parts.tickets.install(ticket(kept, self._parts))  # unless it is there
        if kept.is_upload:
            self._parts.images.flush(kept.ticket_id)
        if kept.expected_sha256:
            found = self._parts.images.checksum(kept.ticket_id)
            self._keep(
                lambda each: replace(
                    each, transfer=replace(each.transfer, sha256=found)
                )
            )
            if found != kept.expected_sha256:
                raise UploadDiffers(f"its sum is {found}, not {kept.expected_sha256}")
        self._keep(lambda each: replace(each, is_flushed=True))
        return True

    def _abandon(self, kept: Kept) -> None:
        self._clear(kept)
        if kept.is_upload and kept.request.removes_disk:
            self._remove_disk(kept)
        ended = TransferPhase.FINISHED_FAILURE
        self._end(kept, TransferPhase.CANCELLED if kept.is_cancelled else ended)

    def _remove_disk(self, kept: Kept) -> None:
        """Let the disk go that was made for what did not come, if that is possible."""
        seat = self._parts.roster.seat(kept.pool_id)
        if not seat.is_serving:
            return  # its state says what to do with it
        try:
            seat.work.hold_again(claim(kept))
            self._do(seat, kept, "remove", tasks.removal(kept))
        except Error as error:
            log.warning("disk %s stays: %s", kept.transfer.disk_id, error)

    # what they are made of

    def _hold(self, seat: Seat, kept: Kept) -> None:
        """Have the disk locked; DiskInUse and StorageDomainInactive end it."""
        if self._holder is not seat:
            seat.work.hold(claim(kept))
            self._holder = seat
            return
        if not seat.wanted.is_active(kept.storage_domain_id):
            raise StorageDomainInactive(
                f"storage domain {kept.storage_domain_id} is active no more",
                storage_domain_id=kept.storage_domain_id,
            )
        if not kept.is_shared:
            seat.work.check_unused((kept.transfer.disk_id,))

    def _require_manager(self, kept: Kept) -> Seat | None:
        """Return the pool if we manage it; None: not now, or it is over."""
        seat = self._parts.roster.seat(kept.pool_id)
        state = seat.pool.spm.state
        if state is State.SERVING:
            return seat
        if state is State.RELEASING:
            if kept.transfer.phase not in rules.PAUSED:
                self._pause(kept, "transfer_manager_leaves", "")
            self._clear(kept)
        elif seat.is_settled:
            holder = seat.holder() or "(none)"
            self._fail(kept, "transfer_manager_lost", f"node {holder} manages the pool")
        return None

    def _serve(self, seat: Seat, kept: Kept) -> None:
        """Have a qemu-nbd that answers at its socket; QemuNbdEnded."""
        access = seat.pool.access(kept.storage_domain_id)
        volume = str(access.layout.volume(kept.transfer.disk_id, kept.volume_id))
        with seat.pool.spm.work() as term:
            needs = term.needs(kept.storage_domain_id)
            words = rules.serve(kept, volume, str(_socket(kept, self._parts)))
            self._guard.run(kept.step_id, words, needs)
        clock = self._parts.world.clock
        until = clock.monotonic() + _START_S
        while not _socket(kept, self._parts).exists():
            step = self._guard.wait(kept.step_id, _POLL_S)
            if step.state is StepState.ENDED:
                raise QemuNbdEnded(_why(step))
            self._check_stopping()
            if clock.monotonic() >= until:
                raise QemuNbdEnded(f"it opened no socket in {_START_S:g} s")

    def _clear(self, kept: Kept) -> None:
        """Let nobody read or write any more. Idempotent; TicketInUse, Busy."""
        if self._is_clear:
            return
        tickets = self._parts.tickets
        is_removed = self._has_removed(kept)
        for step_id in sorted(self._steps(kept)):
            if self._guard.cancel(step_id).state is not StepState.ENDED:
                raise QemuNbdHangs(f"step {step_id} does not end")
            self._guard.forget(step_id)
        if not is_removed:  # what waited for qemu-nbd has got its answer
            tickets.remove(kept.ticket_id)
        _socket(kept, self._parts).unlink(missing_ok=True)
        self._is_clear = True

    def _has_removed(self, kept: Kept) -> bool:
        """Remove the ticket; False: requests wait for qemu-nbd."""
        tickets = self._parts.tickets
        try:
            self._note_last(kept)
            tickets.remove(kept.ticket_id)
        except TransferServerSilent as error:
            # Tickets die with it, and after qemu-nbd's end it can do no harm.
            log.info("transfer %s: %s", self.transfer_id, error)
        except Conflict as error:
            if error.code != TicketInUse.code:
                raise
            return False
        return True

    def _do(self, seat: Seat, kept: Kept, name: str, task: Task) -> None:
        """Have a job done on the volume; raises what it failed with."""
        job_id = tasks.job_id(kept, name)
        asked = Asked(job_id, kept.request.correlation_id)
        job = seat.work.ask(type(task), task.disk_id, asked, lambda: task)
        while job.state not in JOB_ENDED:
            self._check_stopping()
            job = self._parts.world.jobs.get(job_id, _JOB_LOOK_S)
        if job.state is not JobState.DONE:
            why = job.error.message if job.error is not None else str(job.state)
            raise UploadJobFailed(f"{disk_tasks.verb(type(task))}: {why}")

    def _look_at_file(self, seat: Seat, kept: Kept) -> None:
        """Refuse a file that QEMU must not open for a guest; UploadUnusable."""
        access = seat.pool.access(kept.storage_domain_id)
        volume = str(access.layout.volume(kept.transfer.disk_id, kept.volume_id))
        step_id = f"{kept.step_id}.look"
        with seat.pool.spm.work() as term:
            needs = term.needs(kept.storage_domain_id)
            self._guard.run(step_id, rules.look(volume), needs)
        step = self._guard.wait(step_id, _INFO_S)
        if step.state is not StepState.ENDED:
            step = self._guard.cancel(step_id)
        self._guard.forget(step_id)
        if step.exit_status != 0:
            raise rules.UploadUnusable(f"qemu-img cannot read it: {_why(step)}")
        size_bytes = _capacity(seat.catalog, seat, kept)
        rules.check_file(wire.parse(step.stdout.encode()), size_bytes)

    def _steps(self, kept: Kept) -> frozenset[str]:
        """Return the programs of this transfer that are known, of all rounds."""
        ours = f"{rules.STEPS}{kept.transfer_id}."
        found = (each.step_id for each in self._guard.steps())
        return frozenset(each for each in found if each.startswith(ours))

    def _step(self, kept: Kept) -> Step | None:
        """Return the qemu-nbd of this round; None: the storage process knows none."""
        try:
            return self._guard.wait(kept.step_id, 0.0)
        except Error as error:
            if error.code != StepUnknown.code:
                raise
            return None

    def _prolong(self, kept: Kept) -> None:
        now = self._parts.world.clock.monotonic()
        if self._extended_at is None or now - self._extended_at >= rules.TICKET_S / 5:
            self._parts.tickets.extend(kept.ticket_id, rules.TICKET_S)
            self._extended_at = now

    # what is told

    def _note(self, kept: Kept, info: TicketInfo) -> None:
        """Tell how far it is; the store is not asked to keep each look."""
        moved = kept.moved_before + (info.transferred or 0)
        moved = min(moved, kept.transfer.size_bytes)
        self._parts.ledger.note(kept, moved, is_active=info.active)

    def _note_last(self, kept: Kept) -> None:
        """Tell how far it came, if there is still a ticket."""
        with contextlib.suppress(NotFound, TransferServerSilent):
            self._note(kept, self._parts.tickets.info(kept.ticket_id))

    def _cope(self, kept: Kept, error: Error) -> None:
        """Wait for what may pass, pause for what does not, fail for what is wrong."""
        clock = self._parts.world.clock
        if self._trouble_since is None:
            self._trouble_since = clock.monotonic()
            log.info("transfer %s: %s", self.transfer_id, error)
        lasts_s = clock.monotonic() - self._trouble_since
        phase = kept.transfer.phase
        if phase is TransferPhase.FINALIZING_FAILURE or phase in rules.PAUSED:
            return  # what is in the way must go first
        if error.code == TicketUnknown.code:
            self._pause(kept, "transfer_server_restarted", "")
        elif isinstance(error, Unavailable | Busy):
            if lasts_s >= _PATIENCE_S:
                self._pause(kept, "transfer_interrupted", str(error))
        elif isinstance(error, NotSpm):
            return  # the next look says who manages
        elif (
            isinstance(error, Failed) and phase is not TransferPhase.FINALIZING_SUCCESS
        ):
            self._pause(kept, "transfer_interrupted", str(error))
        else:
            self._fail(kept, "transfer_failed", f"{error} {error.remedy}".strip())

    def _pause(self, kept: Kept, code: str, detail: str) -> None:
        reason = self._reason(kept, code, detail)
        log.warning("transfer %s pauses: %s %s", self.transfer_id, code, detail)
        self._move(kept, TransferPhase.PAUSED_SYSTEM, reason)
        self._wake.set()

    def _fail(
        self, kept: Kept, code: str, detail: str, *, is_cancelled: bool = False
    ) -> None:
        reason = self._reason(kept, code, detail)
        log.warning("transfer %s fails: %s %s", self.transfer_id, code, detail)
        self._move(kept, TransferPhase.FINALIZING_FAILURE, reason, is_cancelled)
        self._wake.set()

    def _reason(self, kept: Kept, code: str, detail: str) -> Reason:
        fields = {"name": kept.transfer.name, "detail": detail}
        return Reason(code, rfc3339(self._parts.world.clock.now()), fields)

    def _end(self, kept: Kept, phase: TransferPhase) -> None:
        """Unlock the disk, and say how it ended."""
        seats = [
            s for s in self._parts.roster.seats() if s.pool.pool_id == kept.pool_id
        ]
        for seat in seats:
            self._look_again(seat, kept)
            seat.work.let_go(self.transfer_id)
        self._holder = None  # should it go on after all, it locks the disk anew
        self._move(kept, phase)
        self._tell_end(phase)
        log.info("transfer %s ended: %s", self.transfer_id, phase)

    def _tell_end(self, phase: TransferPhase) -> None:
        transfer = self.kept.transfer
        if phase is TransferPhase.FINISHED_SUCCESS:
            fields = {"name": transfer.name}
            self._parts.world.tell("transfer_finished", fields)
            return
        detail = "somebody cancelled it"
        if (why := transfer.reason) is not None:
            detail = messages.text(why.code, why.fields)
        fields = {"name": transfer.name, "detail": detail}
        self._parts.world.tell("transfer_ended", fields)

    def _look_again(self, seat: Seat, kept: Kept) -> None:
        try:
            access = seat.pool.access(kept.storage_domain_id)
            seat.catalog.read_image(access, kept.transfer.disk_id)
        except Error as error:
            log.info("disk %s cannot be looked at: %s", kept.transfer.disk_id, error)

    def _move(
        self,
        kept: Kept,
        phase: TransferPhase,
        reason: Reason | None = None,
        is_cancelled: bool = False,
    ) -> None:
        """Go to another phase, unless somebody has wanted another one meanwhile."""
        at = rfc3339(self._parts.world.clock.now())

        def change(each: Kept) -> Kept:
            made = rules.moved(each, phase, at)
            if reason is not None:
                made = replace(made, transfer=replace(made.transfer, reason=reason))
            return replace(made, is_cancelled=each.is_cancelled or is_cancelled)

        self._keep_in(kept, change)

    def _keep_in(self, kept: Kept, change: Callable[[Kept], Kept]) -> None:
        """Change it if it is still in the phase that was looked at, and that round."""
        seen = kept.transfer.phase, kept.round

        def change_same(each: Kept) -> Kept:
            is_same = (each.transfer.phase, each.round) == seen
            return change(each) if is_same else each

        self._keep(change_same)

    def _keep(self, change: Callable[[Kept], Kept]) -> Kept:
        return self._parts.ledger.change(self.transfer_id, change)

    def _check_stopping(self) -> None:
        if self._is_stopped:
            raise _Stopping


class QemuNbdHangs(Busy):
    code = "qemu_nbd_hangs"
    remedy = "Nothing: it ends when its storage answers or its lease is lost."


class UploadJobFailed(Conflict):
    code = "upload_job_failed"
    remedy = "Correct what the message names, then upload again."


def claim(kept: Kept) -> Claim:
    """Return what a transfer locks: its disk alone, or what stays with others."""
    disk_ids = frozenset({str(kept.transfer.disk_id)})
    return Claim(
        JobId(kept.transfer_id),
        frozenset() if kept.is_shared else disk_ids,
        disk_ids if kept.is_shared else frozenset(),
        frozenset({(kept.storage_domain_id, str(kept.transfer.disk_id))}),
    )


def ticket(kept: Kept, parts: Parts) -> TicketRequest:
    """Return what the transfer server is told."""
    return TicketRequest(
        kept.ticket_id,
        kept.transfer.size_bytes,
        f"nbd:unix:{_socket(kept, parts)}",
        rules.TICKET_S,
        (Op.WRITE,) if kept.is_upload else (Op.READ,),
        sparse=kept.is_thin,
        transfer_id=kept.transfer_id,
        filename=kept.transfer.name,
    )


def _socket(kept: Kept, parts: Parts) -> Path:
    # A path of a socket has at most 107 bytes; others see it, so no ticket is in it.
    return parts.folder / f"{kept.transfer_id.replace('-', '')}.nbd"


def _capacity(catalog: Catalog, seat: Seat, kept: Kept) -> int:
    """Return the size of the disk, as its metadata say."""
    access = seat.pool.access(kept.storage_domain_id)
    disk = catalog.place(access, DiskId(kept.transfer.disk_id)).require()
    return facts.meta_of(disk, kept.volume_id).capacity_bytes


def _why(step: Step | None) -> str:
    """Return why a program ended."""
    if step is None:
        return "the storage process was restarted"
    text = step.stderr.strip().rpartition("\n")[2][:400]
    return text or f"it ended with {step.exit_status}"
