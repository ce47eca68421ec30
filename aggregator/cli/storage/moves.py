"""Carry one image through its transfer, and go on where it was interrupted.

A note in the user's own folder says how much of a file is flushed, and in which
transfer; so a command that is repeated goes on. What breaks meanwhile (the connection,
a node's process, its agent) is waited for, as long as something moves now and then.
Sizes are bytes, times seconds.
"""

import contextlib
import hashlib
import os
import ssl
import sys
import time
import uuid
from concurrent import futures
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from aggregator import passage
from aggregator.api import transfer_verbs as verbs
from aggregator.cli import client
from node import wire
from node.commands import terminal
from node.errors import Busy, Denied, Error, Failed, Invalid, NotFound, Unavailable
from node.model.ids import DiskId, SnapshotId, TransferId
from node.model.storage import DiskFormat, Transfer, TransferDirection, TransferPhase
from node.model.storage_requests import ActOnTransfer, CreateTransfer, FinalizeTransfer
from node.model.verbs import Verb
from node.transfer import moving, remote

_LOOK_S: Final = 0.5
# A manager may change, a node's agent restart: longer than an election.
PATIENCE_S: Final = 180.0
_AGAIN_S: Final = 1.0
_WORTH_TELLING_S: Final = 5.0
_EXTEND_S: Final = 20.0  # a transfer that nobody uses pauses after 60 s
_PASSING: Final = (Unavailable, Busy, remote.RemoteDenies)

_P = TransferPhase
_UNDER_WAY: Final = frozenset({_P.INITIALIZING, _P.FINALIZING_FAILURE})
_PAUSED: Final = frozenset({_P.PAUSED_USER, _P.PAUSED_SYSTEM})
# Why a transfer ended although what was flushed is good.
_HARMLESS: Final = frozenset(
    {"transfer_manager_lost", "transfer_manager_leaves", "transfer_unused"}
)


class TransferEnded(Failed):
    """The node gave it up."""

    code = "transfer_ended"
    remedy = "Repeat the command to begin anew."


class TransferStuck(Unavailable):
    code = "transfer_stuck"
    remedy = "Repeat the command when the node is well: it goes on where it stopped."


@dataclass(frozen=True, slots=True)
class Note:
    """What must be known to go on."""

    disk_id: DiskId
    transfer_id: TransferId | None = None
    done_bytes: int = 0  # flushed
    size_bytes: int = 0  # of the file
    modified_ns: int = 0
    snapshot_id: SnapshotId | None = None  # what is fetched of it


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be moved."""

    disk_id: DiskId
    direction: TransferDirection
    disk_format: DiskFormat  # what travels
    file: int  # a descriptor
    file_bytes: int | None = None  # of a qcow2 file that is sent
    snapshot_id: SnapshotId | None = None  # fetch that state; None: the newest


class Notes:
    """The note about one file and one direction."""

    def __init__(self, path: Path, direction: TransferDirection) -> None:
        name = f"{direction} {path.resolve()}".encode()
        folder = client.session_path().parent / "transfers"
        self._path = folder / f"{hashlib.sha256(name).hexdigest()[:32]}.json"

    def load(self) -> Note | None:
        try:
            return wire.decode(Note, self._path.read_bytes(), strict=False)
        except (FileNotFoundError, Invalid):
            return None

    def save(self, note: Note) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self._path.with_suffix(".new")
        draft.write_bytes(wire.encode(note))
        draft.replace(self._path)

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)


class Mover:
    """One image on its way."""

    def __init__(
        self,
        fleet: client.FleetClient,
        context: ssl.SSLContext,
        job: Job,
        notes: Notes,
        note: Note,
        line: "Line",
        origin: str,
    ) -> None:
        """`origin` is the aggregator's address, if the node is not reached."""
        self._fleet = fleet
        self._origin = origin
        self._is_direct: bool | None = None
        self._context = context
        self._job = job
        self._notes = notes
        self._note = note
        self._line = line
        self._moved_at = time.monotonic()

    def run(self) -> Transfer:
        """Return the transfer when it has ended well; TransferEnded, TransferStuck."""
        while True:
            try:
                transfer = self._ready()
                if transfer.phase is not _P.FINISHED_SUCCESS:
                    self._move(transfer)
                    transfer = self._finalize(transfer)
                self._notes.drop()
                return transfer
            except _PASSING as error:
                self._pause(error)

    def _ready(self) -> Transfer:
        """Return a transfer that is open, or done; make one if need be."""
        while True:
            transfer = self._known()
            if transfer is None or transfer.phase in _OVER:
                transfer = self._begin(transfer)
            if transfer.phase in (_P.TRANSFERRING, *_DONE):
                return transfer
            if transfer.phase in _PAUSED:
                self._act(verbs.TRANSFER_RESUME, ActOnTransfer(), transfer)
            self._check_patience(f"transfer {transfer.transfer_id} {transfer.phase}")
            time.sleep(_LOOK_S)

    def _known(self) -> Transfer | None:
        if self._note.transfer_id is None:
            return None
        with contextlib.suppress(NotFound):
            return self._fleet.transfer_show(self._note.transfer_id)
        return None

    def _begin(self, before: Transfer | None) -> Transfer:
        """Make another transfer; what was flushed is there, unless it was refused."""
        job = self._job
        is_good = before is None or (
            before.reason is not None and before.reason.code in _HARMLESS
        )
        is_upload = job.direction is TransferDirection.UPLOAD
        if is_upload and not (is_good and job.disk_format is DiskFormat.RAW):
            self._keep(replace(self._note, done_bytes=0))
        transfer_id = TransferId(str(uuid.uuid4()))
        request = CreateTransfer(
            transfer_id,
            job.disk_id,
            job.direction,
            job.disk_format,
            job.snapshot_id,
            size_bytes=job.file_bytes,
        )
        try:
            made = self._fleet.transfer_create(request)
        except NotFound as error:
            if error.code != "disk_not_found":
                raise
            # What was made a moment ago is not shown yet.
            raise TransferStuck(str(error)) from error
        self._keep(replace(self._note, transfer_id=transfer_id))
        return made

    def _move(self, transfer: Transfer) -> None:
        move = moving.upload
        if self._job.direction is TransferDirection.DOWNLOAD:
            move = moving.download
            os.ftruncate(self._job.file, transfer.size_bytes)
        done = self._note.done_bytes
        self._line.tell(transfer, done)
        size_bytes = transfer.size_bytes

        def tell(done_bytes: int) -> None:
            self._keep(replace(self._note, done_bytes=done_bytes))
            self._moved_at = time.monotonic()
            self._line.tell(transfer, done_bytes)

        url, file = self._address(transfer), self._job.file
        move(url, self._context, file, size_bytes, done, tell)

    def _address(self, transfer: Transfer) -> str:
        """Return where to move the disk: at the node, or past the aggregator."""
        if self._is_direct is None:
            self._is_direct = remote.is_reached(transfer.url)
        path = passage.path(transfer)
        return transfer.url if self._is_direct or not path else self._origin + path

    def _finalize(self, transfer: Transfer) -> Transfer:
        """End it with the sum of the file; TransferEnded if they differ."""
        sha256 = self._sum(transfer)
        found = self._act(verbs.TRANSFER_FINALIZE, FinalizeTransfer(sha256), transfer)
        while found.phase is _P.FINALIZING_SUCCESS or found.phase in _UNDER_WAY:
            time.sleep(_LOOK_S)
            found = self._fleet.transfer_show(transfer.transfer_id)
        if found.phase is _P.FINISHED_SUCCESS:
            return found
        why = terminal.sentence(found.reason) or str(found.phase)
        if found.phase in _PAUSED:
            raise TransferStuck(why)
        self._notes.drop()
        raise TransferEnded(why)

    def _sum(self, transfer: Transfer) -> str:
        """Sum the file up, and let the node know that we are still here."""
        with futures.ThreadPoolExecutor(1) as pool:
            work = pool.submit(
                moving.file_checksum, self._job.file, transfer.size_bytes
            )
            while True:
                try:
                    return work.result(_EXTEND_S)
                except futures.TimeoutError:
                    self._act(verbs.TRANSFER_EXTEND, ActOnTransfer(), transfer)

    def _act(self, verb: Verb, request: object, transfer: Transfer) -> Transfer:
        return self._fleet.transfer_act(verb, request, transfer.transfer_id)

    def _keep(self, note: Note) -> None:
        self._note = note
        self._notes.save(note)

    def _pause(self, error: Error) -> None:
        """Wait a little, unless nothing has moved for long."""
        if isinstance(error, Denied) and not isinstance(error, remote.RemoteDenies):
            raise error
        self._check_patience(str(error))
        if time.monotonic() - self._moved_at > _WORTH_TELLING_S:
            self._line.wait(str(error))
        time.sleep(_AGAIN_S)

    def _check_patience(self, why: str) -> None:
        if time.monotonic() - self._moved_at > PATIENCE_S:
            raise TransferStuck(f"nothing moved for {PATIENCE_S:.0f} s: {why}")


_DONE: Final = frozenset({_P.FINISHED_SUCCESS})
_OVER: Final = frozenset({_P.FINISHED_FAILURE, _P.CANCELLED})


class Line:
    """One line of progress on a terminal; elsewhere only what is waited for."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._begin: tuple[float, int] | None = None
        self._waits_for = ""

    def wait(self, why: str) -> None:
        """Say why nothing moves, once."""
        if why != self._waits_for:
            self._waits_for = why
            self.end()
            self._begin = None
            click.echo(f"Waiting: {why}", err=True)

    def tell(self, transfer: Transfer, done_bytes: int) -> None:
        if not self._is_shown:
            return
        now = time.monotonic()
        if self._begin is None:
            self._begin = now, done_bytes
        began, first = self._begin
        speed = (done_bytes - first) / max(now - began, 0.001)
        percent = 100 * done_bytes / max(transfer.size_bytes, 1)
        text = f"{percent:5.1f} % of {terminal.size(transfer.size_bytes)}"
        click.echo(f"\r{text}, {terminal.size(int(speed))}/s   ", err=True, nl=False)

    def end(self) -> None:
        if self._begin is not None:
            click.echo("", err=True)
