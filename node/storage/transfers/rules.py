"""Decide what a transfer may do, and how its data are served.

Pure. Phases are oVirt's words; every act is safe to ask for twice.

    initializing ──► transferring ──► finalizing_success ──► finished_success
      ▲                 │     │             │       └──────► finished_failure
      └── paused_* ◄────┘     └──► finalizing_failure ─────► cancelled

Sizes are bytes, times seconds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from node.errors import Conflict, Invalid, NotFound, Unsupported
from node.model.storage import (
    DiskFormat,
    TimeoutPolicy,
    Transfer,
    TransferDirection,
    TransferPhase,
)
from node.model.storage_requests import CreateTransfer
from node.units import DAY_S, MiB

ENDED: Final = frozenset(
    {
        TransferPhase.FINISHED_SUCCESS,
        TransferPhase.FINISHED_FAILURE,
        TransferPhase.CANCELLED,
    }
)
PAUSED: Final = frozenset({TransferPhase.PAUSED_USER, TransferPhase.PAUSED_SYSTEM})
# Nobody waits longer for a disk that somebody else wants to use.
INACTIVITY_MAX_S: Final = 7 * DAY_S
# A paused transfer keeps its disk; one that nobody comes back to does not.
PAUSED_MAX_S: Final = DAY_S
# A ticket that the agent does not prolong ends: its id opens nothing for ever.
TICKET_S: Final = 300
# docs/formats/transfers.md says why.
_ENVIRONMENT: Final = (
    "MALLOC_MMAP_THRESHOLD_=33554432",
    "MALLOC_TRIM_THRESHOLD_=268435456",
    "MALLOC_ARENA_MAX=1",
)
CONNECTIONS: Final = 8  # of the transfer server to one image
# A qcow2 file that holds all of its disk: tables, reference counts, a header.
_TABLES_PART: Final = 512  # one byte of tables in so many
_HEADER_BYTES: Final = 4 * MiB
# qemu-img reads a header; what takes more is made to.
_LOOK_MEMORY_BYTES: Final = 1024 * MiB
_LOOK_CPU_S: Final = 10


class TransferOver(Conflict):
    """It ended, or is about to."""

    code = "transfer_over"
    remedy = "Begin another transfer."


class TransferNotReady(Conflict):
    """The phase does not allow it."""

    code = "transfer_not_ready"
    remedy = "Wait until it transfers; resume it if it is paused."


class BadInactivity(Invalid):
    code = "bad_inactivity"
    remedy = "Choose 0 (for ever) to a week, in seconds."


class SnapshotTransferUnsupported(Unsupported):
    """A snapshot is fetched as guests saw the disk then, and never sent."""

    code = "transfer_of_snapshot_unsupported"
    remedy = "Fetch all of it, not what it differs in; upload to the disk itself."


class SnapshotHasNotDisk(NotFound):
    """The snapshot is not known, is not complete, or is of other disks."""

    code = "transfer_snapshot_unknown"
    remedy = "List the VM's snapshots, and choose one that has the disk."


class UploadUnusable(Conflict):
    """What came is no disk of this sort."""

    code = "upload_unusable"
    remedy = "Upload a qcow2 file of the disk's size that is built on no other file."


_P = TransferPhase
# What a phase becomes; what is missing is refused.
ACTS: Final[Mapping[str, Mapping[TransferPhase, TransferPhase]]] = {
    "extend": {each: each for each in (_P.INITIALIZING, _P.TRANSFERRING, *PAUSED)},
    "pause": {
        **dict.fromkeys((_P.INITIALIZING, _P.TRANSFERRING), _P.PAUSED_USER),
        **dict.fromkeys(PAUSED, _P.PAUSED_USER),
    },
    "resume": {
        **dict.fromkeys(PAUSED, _P.INITIALIZING),
        _P.INITIALIZING: _P.INITIALIZING,
        _P.TRANSFERRING: _P.TRANSFERRING,
    },
    "finalize": {
        _P.TRANSFERRING: _P.FINALIZING_SUCCESS,
        _P.FINALIZING_SUCCESS: _P.FINALIZING_SUCCESS,
        _P.FINISHED_SUCCESS: _P.FINISHED_SUCCESS,
    },
    "cancel": {
        **dict.fromkeys(
            (_P.INITIALIZING, _P.TRANSFERRING, *PAUSED, _P.FINALIZING_FAILURE),
            _P.FINALIZING_FAILURE,
        ),
        _P.CANCELLED: _P.CANCELLED,
        _P.FINISHED_FAILURE: _P.FINISHED_FAILURE,
    },
}


@dataclass(frozen=True, slots=True)
class Kept:
    """One transfer as it lies in the store."""

    transfer: Transfer
    request: CreateTransfer
    ticket_id: str
    pool_id: str
    storage_domain_id: str
    volume_id: str
    volume_format: DiskFormat
    is_thin: bool
    is_template: bool = False
    round: int = 0  # grows with each qemu-nbd
    is_begun: bool = False  # data may have come
    is_flushed: bool = False  # all data are on the storage, and summed up if need be
    is_cancelled: bool = False  # by somebody's wish
    expected_sha256: str = ""
    moved_before: int = 0  # in earlier rounds

    @property
    def transfer_id(self) -> str:
        return self.transfer.transfer_id

    @property
    def is_shared(self) -> bool:
        """Whether guests may run with the disk: what is read never changes."""
        return self.is_template or self.request.snapshot_id is not None

    @property
    def is_upload(self) -> bool:
        return self.transfer.direction is TransferDirection.UPLOAD

    @property
    def is_file(self) -> bool:
        """Whether the volume's file travels, not what guests see in it."""
        return self.transfer.disk_format is DiskFormat.QCOW2

    @property
    def step_id(self) -> str:
        return f"{STEPS}{self.transfer_id}.{self.round}"


STEPS: Final = "transfer."  # how our steps in the storage process begin


def check(request: CreateTransfer) -> None:
    """Refuse what no node can serve."""
    if request.is_shallow:
        raise SnapshotTransferUnsupported("one volume alone cannot be fetched")
    is_upload = request.direction is TransferDirection.UPLOAD
    if request.snapshot_id is not None and is_upload:
        raise SnapshotTransferUnsupported("nothing is sent to a snapshot")
    if not 0 <= request.inactivity_s <= INACTIVITY_MAX_S:
        raise BadInactivity(f"{request.inactivity_s:g} s are not possible")


def after(verb: str, transfer: Transfer) -> TransferPhase:
    """Return the phase that an act leads to; TransferOver, TransferNotReady."""
    phase = transfer.phase
    wanted = ACTS[verb].get(phase)
    if wanted is not None:
        return wanted
    text = f"transfer {transfer.transfer_id} is in {phase}"
    ending = (*ENDED, _P.FINALIZING_SUCCESS, _P.FINALIZING_FAILURE)
    raise (TransferOver if phase in ending else TransferNotReady)(text, phase=phase)


def moved(kept: Kept, phase: TransferPhase, at: str) -> Kept:
    """Return it in another phase; who resumes begins a new round."""
    if phase is kept.transfer.phase:
        return kept
    transfer = replace(kept.transfer, phase=phase, since=at, is_active=False)
    made = replace(kept, transfer=transfer)
    if phase is _P.INITIALIZING:
        made = replace(
            made,
            transfer=replace(transfer, reason=None),
            round=kept.round + 1,
            is_flushed=False,
            moved_before=transfer.transferred_bytes,
        )
    return made


def unused(kept: Kept, idle_s: float) -> TransferPhase | None:
    """Return what becomes of a transfer that nobody uses; None: it goes on."""
    limit_s = kept.request.inactivity_s
    if limit_s == 0 or idle_s < limit_s:
        return None
    policy = kept.request.timeout_policy
    may_pause = policy is TimeoutPolicy.PAUSE or (
        policy is TimeoutPolicy.LEGACY and kept.is_upload
    )
    return _P.PAUSED_SYSTEM if may_pause else _P.FINALIZING_FAILURE


def file_bytes(size_bytes: int) -> int:
    """Return how large a qcow2 file of a disk may become."""
    bound = size_bytes + math.ceil(size_bytes / _TABLES_PART) + _HEADER_BYTES
    return -(-bound // MiB) * MiB


def serve(kept: Kept, volume: str, socket: str) -> list[str]:
    """Return how qemu-nbd is run."""
    served = DiskFormat.RAW if kept.is_file else kept.volume_format
    words = ["env", *_ENVIRONMENT, "qemu-nbd", "--persistent"]
    words += [f"--shared={CONNECTIONS}", f"--socket={socket}", f"--format={served}"]
    words += ["--cache=none"]  # see `operations.volumes.DIRECT`
    if not kept.is_upload:
        words.append("--read-only")
    elif kept.is_thin:
        words += ["--discard=unmap", "--detect-zeroes=unmap"]
    return [*words, volume]


def look(volume: str) -> list[str]:
    """Return how a qcow2 file that came is looked at, by a program that is bounded."""
    bounds = (f"--as={_LOOK_MEMORY_BYTES}", f"--cpu={_LOOK_CPU_S}")
    return [
        *("prlimit", *bounds, "--"),
        *("qemu-img", "info", "-f", "qcow2", "--output=json", volume),
    ]


def check_file(said: Mapping[str, Any], size_bytes: int) -> None:
    """Refuse what `qemu-img info` says of a file, if it is no disk of ours."""
    specific = dict(said.get("format-specific", {})).get("data", {})
    for is_wrong, text in (
        (said.get("virtual-size") != size_bytes, f"it is not of {size_bytes} bytes"),
        ("backing-filename" in said, "it is built on another file"),
        ("data-file" in specific, "its data lie in another file"),
        (specific.get("corrupt", False), "it is marked as corrupt"),
        ("encrypt" in specific, "it is encrypted"),
    ):
        if is_wrong:
            raise UploadUnusable(text)
