"""Say what is asked of the storage process, and what it answers. Pure.

One JSON object a line, each way: {"verb": …, "request": {…}} is answered by
{"result": {…}} or {"error": {kind, code, message, remedy, fields}}, in order.
Sizes are bytes, times seconds; bytes travel as base64.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from node import errors, wire
from node.errors import Error
from node.system import leases
from node.units import MiB

# In the run folder.
SOCKET: Final = "storage.sock"
# A whole OVF_STORE fits, and a client that writes no line's end cannot hurt us.
LINE_MAX: Final = 8 * MiB
# What `file` reads or writes at once: with base64 it stays below a line.
DATA_MAX: Final = 4 * MiB
TIMEOUT_MAX_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Nothing:
    """No request, or no more to say than that it is done."""


@dataclass(frozen=True, slots=True)
class LockspaceAt:
    name: str
    path: str
    offset: int = 0
    sector_bytes: int = leases.SECTOR_BYTES
    alignment_bytes: int = leases.LEASE_BYTES

    def lockspace(self) -> leases.Lockspace:
        return leases.Lockspace(
            self.name,
            Path(self.path),
            self.offset,
            self.sector_bytes,
            self.alignment_bytes,
        )


@dataclass(frozen=True, slots=True)
class ResourceAt:
    lockspace: str
    name: str
    path: str
    offset: int
    sector_bytes: int = leases.SECTOR_BYTES
    alignment_bytes: int = leases.LEASE_BYTES

    def resource(self) -> leases.Resource:
        return leases.Resource(
            self.lockspace,
            self.name,
            Path(self.path),
            self.offset,
            self.sector_bytes,
            self.alignment_bytes,
        )


@dataclass(frozen=True, slots=True)
class Join:
    lockspace: LockspaceAt
    host_id: int
    io_timeout_s: int = leases.IO_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Leave:
    lockspace: LockspaceAt
    host_id: int


@dataclass(frozen=True, slots=True)
class Need:
    """A lease that must be held here, in exactly this version."""

    lockspace: str
    resource: str
    version: int


@dataclass(frozen=True, slots=True)
class WriteLockspace:
    lockspace: LockspaceAt
    io_timeout_s: int = leases.IO_TIMEOUT_S
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class WriteResource:
    resource: ResourceAt
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class OfResource:
    resource: ResourceAt


@dataclass(frozen=True, slots=True)
class Acquire:
    resource: ResourceAt
    version: int | None = None  # the one it must have had


@dataclass(frozen=True, slots=True)
class OfLockspace:
    lockspace: str


@dataclass(frozen=True, slots=True)
class Run:
    """Start a program; asked again with the same step_id it is the same step."""

    step_id: str
    argv: tuple[str, ...]
    needs: tuple[Need, ...] = ()
    folder: str = "/"


@dataclass(frozen=True, slots=True)
class OfStep:
    step_id: str


@dataclass(frozen=True, slots=True)
class Wait:
    step_id: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class FileWork:
    """File operations below one folder, in order, up to the first error."""

    domain: str  # its key: each has a worker of its own
    root: str
    operations: tuple[Mapping[str, Any], ...]  # {"name": …, its arguments}
    deadline_s: float
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    version: int


@dataclass(frozen=True, slots=True)
class Held:
    lockspace: str
    resource: str
    version: int
    users: int  # steps and file operations that write under it now
    path: str = ""  # where it lies


@dataclass(frozen=True, slots=True)
class Leases:
    held: tuple[Held, ...]
    lost: tuple[Need, ...]  # with their lockspace, until they are acquired again
    # A release of them failed: they serve nobody, and sanlock may hold them still.
    # Release or acquire them again, and it is known.
    unsettled: tuple[Need, ...] = ()


@dataclass(frozen=True, slots=True)
class JoinedAt:
    name: str
    host_id: int
    path: str
    offset: int


@dataclass(frozen=True, slots=True)
class Lockspaces:
    lockspaces: tuple[JoinedAt, ...]


@dataclass(frozen=True, slots=True)
class Hosts:
    hosts: tuple[leases.Host, ...]


@dataclass(frozen=True, slots=True)
class OwnerNow:
    owner: leases.Owner | None = None  # None: nobody


class StepState(StrEnum):
    RUNNING = "running"
    ENDED = "ended"  # it and all that it started are gone


@dataclass(frozen=True, slots=True)
class Step:
    step_id: str
    state: StepState
    exit_status: int | None = None  # None: it runs; minus a signal's number
    stdout: str = ""  # their tails
    stderr: str = ""
    was_lost: bool = False  # killed, since a lease of its was lost
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Steps:
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    line: str  # the last one on standard output; empty: none yet


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it travels."""

    kind: str
    code: str
    message: str
    remedy: str
    fields: Mapping[str, errors.Field] = field(default_factory=dict)

    @classmethod
    def of(cls, error: Error) -> "Problem":
        return cls(
            error.kind, error.code, error.message, error.remedy, dict(error.fields)
        )

    def revive(self) -> Error:
        return errors.revive(
            self.kind, self.code, self.message, self.remedy, **self.fields
        )


@dataclass(frozen=True, slots=True)
class FileReplies:
    """What each operation that took place returned, and why the next did not."""

    replies: tuple[Any, ...]
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Call:
    verb: str
    session: int = 0  # of the agent's run: see sessions.py
    request: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    result: Mapping[str, Any] | None = None
    error: Problem | None = None


@dataclass(frozen=True, slots=True)
class Verb:
    request: type
    result: type


VERBS: Final[Mapping[str, Verb]] = {
    "join": Verb(Join, Nothing),
    "leave": Verb(Leave, Nothing),
    "lockspaces": Verb(Nothing, Lockspaces),
    "hosts": Verb(OfLockspace, Hosts),
    "write_lockspace": Verb(WriteLockspace, Nothing),
    "write_resource": Verb(WriteResource, Nothing),
    "read_owner": Verb(OfResource, OwnerNow),
    "acquire": Verb(Acquire, Version),
    "release": Verb(OfResource, Nothing),
    "leases": Verb(Nothing, Leases),
    "run": Verb(Run, Step),
    "wait": Verb(Wait, Step),
    "progress": Verb(OfStep, Progress),
    "cancel": Verb(OfStep, Step),
    "steps": Verb(Nothing, Steps),
    "forget": Verb(OfStep, Nothing),
    "file": Verb(FileWork, FileReplies),
}


def lockspaces(needs: Iterable[Need]) -> tuple[str, ...]:
    """Return the lockspaces whose leases are needed."""
    return tuple(sorted({need.lockspace for need in needs}))


def line(value: object) -> bytes:
    """Return a dataclass as one line."""
    return wire.encode(value) + b"\n"
